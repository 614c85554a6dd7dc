//! The routes of the listeners, and the request log.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::app_state::{AppState, text_response, too_many_requests};
use super::authority_api::AuthorityApi;
use super::blocking_pool::BlockingPool;
use super::budget::Budget;
use super::connection::SourceAddress;
use super::connection_limit::SearchLimit;
use super::{cmp, limits, search, statements};

/// Builds the routers.
pub(super) struct Routes(Arc<AppState>);

impl Routes {
    pub(super) fn new(
        authority: Arc<dyn AuthorityApi>,
        workers: BlockingPool,
        budget: Arc<Budget>,
        search: bool,
    ) -> Self {
        Self(Arc::new(AppState { authority, workers, budget, search: search.then(SearchLimit::new) }))
    }

    /// The HTTP routes: everything that protects its own content.
    pub(super) fn http(&self) -> Router {
        let routes = common().route("/statements", post(statements_need_tls));
        self.finish(routes.route("/instance", get(statements_need_tls)))
    }

    /// The HTTPS routes: those of HTTP and statements.
    pub(super) fn https(&self) -> Router {
        let routes = common().route("/statements", post(statements::handle));
        self.finish(routes.route("/instance", get(statements::instance)))
    }

    /// Adds fallbacks, charges and logging. Requests of unauthenticated clients are charged to
    /// their source, even on unknown paths.
    fn finish(&self, routes: Router<Arc<AppState>>) -> Router {
        routes
            .fallback(async || text_response(StatusCode::NOT_FOUND, "not found"))
            .method_not_allowed_fallback(async || text_response(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"))
            .with_state(self.0.clone())
            .layer(middleware::from_fn_with_state(self.0.clone(), charge))
            .layer(middleware::from_fn(log))
    }
}

/// The routes of both listeners. RFC 9811 §3.3 and RFC 9483 §6.1 define the CMP paths: an arbitrary
/// profile label, an operation, both or none. The authority has one set of profiles, and the
/// message itself names the operation, so all paths have one handler.
fn common() -> Router<Arc<AppState>> {
    Router::new()
        .route("/.well-known/cmp", post(cmp::handle))
        .route("/.well-known/cmp/{operation}", post(cmp::handle))
        .route("/.well-known/cmp/p/{profile}", post(cmp::handle))
        .route("/.well-known/cmp/p/{profile}/{operation}", post(cmp::handle))
        .route("/ca.cer", get(ca_certificate))
        .route("/certificates/search.cgi", get(search::handle))
}

async fn charge(
    State(state): State<Arc<AppState>>,
    Extension(SourceAddress(source)): Extension<SourceAddress>,
    request: Request,
    next: Next,
) -> Response {
    match state.budget.take(source, limits::COST_OF_REQUEST, Instant::now()) {
        Ok(_) => next.run(request).await,
        Err(reason) => too_many_requests(reason),
    }
}

async fn ca_certificate(State(state): State<Arc<AppState>>) -> Response {
    ([(header::CONTENT_TYPE, "application/pkix-cert")], state.authority.ca_certificate()).into_response()
}

async fn statements_need_tls() -> Response {
    text_response(StatusCode::FORBIDDEN, "statements are accepted over https only")
}

/// Logs one line per request: path, source, status and duration. Never the query (a search names a
/// person), a header or a body.
async fn log(Extension(SourceAddress(source)): Extension<SourceAddress>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path: String = request.uri().path().chars().take(128).collect();
    let begin = Instant::now();
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    tracing::info!(
        %source, %method, ?path, status = response.status().as_u16(), milliseconds = begin.elapsed().as_millis(),
        "request"
    );
    response
}
