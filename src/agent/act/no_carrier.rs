//! The transport of operations that send nothing. It rejects every request.

use crate::carrier::{Carrier, CarrierError};

/// Rejects every request.
#[derive(Clone, Copy, Debug)]
pub struct NoCarrier;

impl NoCarrier {
    fn refused<T>() -> Result<T, CarrierError> {
        Err(CarrierError::Address { url: "anywhere".to_owned(), reason: "this operation sends nothing".to_owned() })
    }
}

impl Carrier for NoCarrier {
    fn cmp(&self, _message: &[u8]) -> Result<Vec<u8>, CarrierError> {
        Self::refused()
    }

    fn ca_certificate(&self) -> Result<Vec<u8>, CarrierError> {
        Self::refused()
    }

    fn search_certificates(&self, _email: &str) -> Result<Vec<Vec<u8>>, CarrierError> {
        Self::refused()
    }

    fn instance(&self) -> Result<Vec<u8>, CarrierError> {
        Self::refused()
    }

    fn statement(&self, _statement: &[u8]) -> Result<Vec<u8>, CarrierError> {
        Self::refused()
    }
}
