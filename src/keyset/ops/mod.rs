//! The operations, one file each, and their register.
//!
//! A new operation is a new file, and one line in the register below; [`dispatch`] then finds it by
//! its type's name, for a process that receives it from another one.

mod administer;
mod change_pin;
mod choose_keyset;
mod decrypt;
mod delete;
mod enroll;
mod export;
mod list_keysets;
mod list_tokens;
mod open_response;
mod pin_status;
mod show_token;
mod sign;
mod sign_statement;
mod unblock_pin;

use serde_json::value::RawValue;

use super::{Operation, OperationName};

pub use export::{CertificateExport, ExportedCertificates};
pub use pin_status::TokenPinFlags;
pub use show_token::TokenDetails;

#[cfg(test)]
pub(super) use self::{
    administer::administer, change_pin::change_pin, delete::delete, open_response::open_response, sign::sign,
    sign_statement::sign_for_a_file,
};

/// Runs an operation whose type only [`dispatch`] knows.
pub trait OperationVisitor {
    type Result;

    fn visit<O: Operation>(self, operation: O) -> Self::Result;
}

/// Declares the operations.
macro_rules! register {
    ($($file:ident::$operation:ident),+ $(,)?) => {
        $(
            pub use $file::$operation;

            impl OperationName for $operation {
                const ID: &'static str = stringify!($operation);
            }
        )+

        /// Reads the arguments of the operation with this name, and passes it to the visitor.
        /// `None`: there is no such operation.
        ///
        /// # Errors
        /// The arguments do not fit.
        pub fn dispatch<V: OperationVisitor>(
            name: &str,
            arguments: &RawValue,
            visitor: V,
        ) -> Option<Result<V::Result, serde_json::Error>> {
            match name {
                $($operation::ID => {
                    Some(serde_json::from_str(arguments.get()).map(|operation: $operation| visitor.visit(operation)))
                })+
                _ => None,
            }
        }
    };
}

register! {
    administer::Administer,
    change_pin::ChangePin,
    choose_keyset::ChooseKeyset,
    decrypt::DecryptContent,
    delete::DeleteKeyset,
    enroll::Enroll,
    export::ExportKeyset,
    list_keysets::ListKeysets,
    list_tokens::ListTokens,
    open_response::OpenResponse,
    pin_status::PinStatus,
    show_token::ShowToken,
    sign::SignContent,
    sign_statement::SignStatement,
    unblock_pin::UnblockPin,
}
