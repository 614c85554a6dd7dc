//! The transport of operations that send nothing. It rejects every request.

use crate::transport::{Transport, TransportError};

/// Rejects every request.
#[derive(Clone, Copy, Debug)]
pub struct NoTransport;

impl NoTransport {
    fn refused<T>() -> Result<T, TransportError> {
        Err(TransportError::Address { url: "anywhere".to_owned(), reason: "this operation sends nothing".to_owned() })
    }
}

impl Transport for NoTransport {
    fn cmp(&self, _message: &[u8]) -> Result<Vec<u8>, TransportError> {
        Self::refused()
    }

    fn ca_certificate(&self) -> Result<Vec<u8>, TransportError> {
        Self::refused()
    }

    fn search_certificates(&self, _email: &str) -> Result<Vec<Vec<u8>>, TransportError> {
        Self::refused()
    }

    fn instance(&self) -> Result<Vec<u8>, TransportError> {
        Self::refused()
    }

    fn statement(&self, _statement: &[u8]) -> Result<Vec<u8>, TransportError> {
        Self::refused()
    }
}
