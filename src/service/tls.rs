//! TLS with a key on the token: rustls requests signatures, and the token makes them.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{ServerConfig, SignatureAlgorithm, SignatureScheme};

use tokio::sync::Semaphore;

use super::{ServiceError, limits};
use crate::authority::TlsIdentity;
use crate::token::{KeyAlgorithm, Signature};

/// Builds the server configuration for TLS 1.2 and 1.3 with this chain and key.
pub(super) fn server_config(identity: TlsIdentity) -> Result<Arc<ServerConfig>, ServiceError> {
    let algorithm = identity.key.algorithm();
    config(identity.chain, TokenSigningKey::new(identity.key, algorithm)?)
}

/// Builds the server configuration with any signing key.
pub(super) fn config<K: TlsKey>(
    chain: Vec<Vec<u8>>,
    key: TokenSigningKey<K>,
) -> Result<Arc<ServerConfig>, ServiceError> {
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ServiceError::Tls(error.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertResolver(Arc::new(CertifiedKey::new(chain, Arc::new(key))))));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A key that makes X.509 signatures, such as `AuthorityKey`.
pub(super) trait TlsKey: signature::Signer<Signature> + Clone + Send + Sync + 'static {}

impl<T: signature::Signer<Signature> + Clone + Send + Sync + 'static> TlsKey for T {}

/// Resolves every server name to the authority's only certificate.
#[derive(Debug)]
struct SingleCertResolver(Arc<CertifiedKey>);

impl ResolvesServerCert for SingleCertResolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// A key on a token, with rustls's interface.
#[derive(Clone)]
pub(super) struct TokenSigningKey<K> {
    key: K,
    scheme: SignatureScheme,
    /// Limits the concurrent signatures, not the handshakes: a deliberately slow handshake takes no
    /// permit.
    permits: Arc<Semaphore>,
}

impl<K: TlsKey> TokenSigningKey<K> {
    /// Elliptic curves only: TLS 1.3 requires RSASSA-PSS of an RSA key, but tokens sign X.509 data
    /// with PKCS #1 v1.5.
    pub(super) fn new(key: K, algorithm: KeyAlgorithm) -> Result<Self, ServiceError> {
        let scheme = match algorithm {
            KeyAlgorithm::P256 => SignatureScheme::ECDSA_NISTP256_SHA256,
            KeyAlgorithm::P384 => SignatureScheme::ECDSA_NISTP384_SHA384,
            KeyAlgorithm::Rsa(_) => {
                let reason = format!("its key is {algorithm}; TLS requires an elliptic-curve key");
                return Err(ServiceError::Tls(reason));
            }
        };
        Ok(Self { key, scheme, permits: Arc::new(Semaphore::new(limits::MAX_HANDSHAKES)) })
    }
}

impl<K: TlsKey> SigningKey for TokenSigningKey<K> {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.scheme).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl<K: TlsKey> Signer for TokenSigningKey<K> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let _place = self.permits.try_acquire().map_err(|_| rustls::Error::General("the token is busy".to_owned()))?;
        // The token blocks, perhaps until it has generated an RSA key: other connections of this
        // thread move to another thread meanwhile.
        tokio::task::block_in_place(|| self.key.try_sign(message))
            .map(|signature| signature.as_bytes().to_vec())
            .map_err(|error| rustls::Error::General(format!("the token cannot sign: {error}")))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

impl<K> fmt::Debug for TokenSigningKey<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenSigningKey({:?})", self.scheme)
    }
}
