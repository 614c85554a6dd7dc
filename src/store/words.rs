//! The words that columns may hold, as enums.

use std::fmt;
use std::str::FromStr;

/// Declares an enum whose variants are words in the database, with `Display` and `FromStr`.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// The word that stands for it in the database.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = ();

            fn from_str(word: &str) -> Result<Self, ()> {
                match word { $($word => Ok(Self::$variant),)+ _ => Err(()) }
            }
        }
    };
}

words! {
    /// What a temporary key is for.
    Purpose {
        /// A reference that begins with E: an `ir`.
        Enroll = "enroll",
        /// A reference that begins with R: a `krr`.
        Recover = "recover",
    }
}

words! {
    /// Where a temporary key stands.
    TemporaryKeyState {
        /// Nobody has used it yet.
        Unused = "unused",
        /// A transaction has it, and is not ended.
        Claimed = "claimed",
        /// An enrollment with it was confirmed.
        Used = "used",
        /// A newer letter took its place.
        Voided = "voided",
    }
}

words! {
    /// Where an enrollment's transaction stands.
    TransactionState {
        /// The temporary key is claimed; there is no reply yet.
        Begun = "begun",
        /// The reply is stored; its confirmation is awaited.
        Answered = "answered",
        /// Confirmed: the certificates are the user's current ones.
        Confirmed = "confirmed",
        /// The client refused what it got; its certificates are revoked, the letter is good again.
        Rejected = "rejected",
        /// Nobody confirmed in time; as if rejected.
        Unconfirmed = "unconfirmed",
    }
}

words! {
    /// Whose certificate, and what for.
    CertificateKind {
        /// The CA's own.
        Ca = "ca",
        /// Signs CMP messages and statement responses.
        Response = "response",
        /// The TLS server's.
        Tls = "tls",
        /// A user's signing key.
        Signing = "signing",
        /// A user's encryption key.
        Encryption = "encryption",
    }
}

words! {
    /// Where a certificate stands.
    CertificateState {
        /// What will be signed is stored; a signature may or may not have been made, and has not left.
        Intended = "intended",
        /// Signed, not yet confirmed by its user.
        Issued = "issued",
        /// The one in use.
        Current = "current",
        /// A newer one took its place.
        Superseded = "superseded",
        /// Revoked.
        Revoked = "revoked",
        /// Never left the authority: its key was lost before it was archived.
        Abandoned = "abandoned",
    }
}

words! {
    /// What a user may do beyond using their own keys.
    Role {
        /// May sign statements.
        Administrator = "administrator",
    }
}
