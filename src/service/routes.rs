//! Which path leads to which door, and a line in the log for each request.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::budget::Budget;
use super::connection::Source;
use super::door::{Doors, refusal, spent};
use super::guard::SearchLimit;
use super::office::Office;
use super::workers::BlockingPool;
use super::{check, cmp, limits, search, statements};

/// The control socket's paths; the log tells them from the doors' by them.
pub(super) const CONTROL_STATEMENTS: &str = "/control/statements";
/// The same: a check of the whole database.
pub(super) const CONTROL_CHECK: &str = "/control/check";

/// The routes of both doors.
pub(super) struct Routes(Arc<Doors>);

impl Routes {
    pub(super) fn new(office: Arc<dyn Office>, workers: BlockingPool, budget: Arc<Budget>, search: bool) -> Self {
        Self(Arc::new(Doors { office, workers, budget, search: search.then(SearchLimit::new) }))
    }

    /// Everything that protects itself.
    pub(super) fn http(&self) -> Router {
        let routes = common().route("/statements", post(statements_need_tls));
        self.finish(routes.route("/instance", get(statements_need_tls)), true)
    }

    /// The same, and statements.
    pub(super) fn https(&self) -> Router {
        let routes = common().route("/statements", post(statements::answer));
        self.finish(routes.route("/instance", get(statements::instance)), true)
    }

    /// The control socket's.
    pub(super) fn control(&self) -> Router {
        let routes = Router::new().route(CONTROL_STATEMENTS, post(statements::answer_file));
        self.finish(routes.route(CONTROL_CHECK, post(check::answer)), false)
    }

    /// Requests of strangers cost their source something, also those that lead nowhere.
    fn finish(&self, routes: Router<Arc<Doors>>, is_charged: bool) -> Router {
        let routes = routes
            .fallback(async || refusal(StatusCode::NOT_FOUND, "there is nothing here"))
            .method_not_allowed_fallback(async || refusal(StatusCode::METHOD_NOT_ALLOWED, "not by this method"))
            .with_state(self.0.clone());
        let charge = middleware::from_fn_with_state(self.0.clone(), charge);
        let routes = if is_charged { routes.layer(charge) } else { routes };
        routes.layer(middleware::from_fn(log))
    }
}

/// RFC 9811 §3.3 and RFC 9483 §6.1 have the CMP paths: an arbitrary label for a profile, an operation, both or none. One
/// authority has one set of profiles, and what is wanted stands in the message, so all of them are the same door.
fn common() -> Router<Arc<Doors>> {
    Router::new()
        .route("/.well-known/cmp", post(cmp::answer))
        .route("/.well-known/cmp/{operation}", post(cmp::answer))
        .route("/.well-known/cmp/p/{profile}", post(cmp::answer))
        .route("/.well-known/cmp/p/{profile}/{operation}", post(cmp::answer))
        .route("/ca.cer", get(ca_certificate))
        .route("/certificates/search.cgi", get(search::answer))
}

async fn charge(
    State(doors): State<Arc<Doors>>,
    Extension(Source(source)): Extension<Source>,
    request: Request,
    next: Next,
) -> Response {
    match doors.budget.take(source, limits::COST_OF_REQUEST, Instant::now()) {
        Ok(_) => next.run(request).await,
        Err(reason) => spent(reason),
    }
}

async fn ca_certificate(State(doors): State<Arc<Doors>>) -> Response {
    ([(header::CONTENT_TYPE, "application/pkix-cert")], doors.office.ca_certificate()).into_response()
}

async fn statements_need_tls() -> Response {
    refusal(StatusCode::FORBIDDEN, "statements are taken over https only")
}

/// One line for each request: what, from where, how it ended, how long it took. Never the query (a search names a
/// person), never a header, never a body.
async fn log(Extension(Source(source)): Extension<Source>, request: Request, next: Next) -> Response {
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
