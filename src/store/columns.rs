//! Enums for the words that database columns contain.

use std::fmt;
use std::str::FromStr;

/// Declares an enum whose variants are words in the database, with `Display` and `FromStr`.
macro_rules! column_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// The word in the database.
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

column_enum! {
    /// The purpose of a temporary key.
    TemporaryKeyPurpose {
        /// Enrollment by `ir`; the reference begins with E.
        Enroll = "enroll",
        /// Recovery by `krr`; the reference begins with R.
        Recover = "recover",
    }
}

column_enum! {
    /// The state of a temporary key.
    TemporaryKeyState {
        /// No message has used it.
        Unused = "unused",
        /// An open transaction has claimed it.
        Claimed = "claimed",
        /// An enrollment with it was confirmed.
        Used = "used",
        /// A newer letter replaced it.
        Voided = "voided",
    }
}

column_enum! {
    /// The state of an enrollment's transaction.
    TransactionState {
        /// The temporary key is claimed; no reply exists yet.
        Begun = "begun",
        /// The reply is stored and waits for its confirmation.
        Answered = "answered",
        /// Confirmed: the certificates are the user's current ones.
        Confirmed = "confirmed",
        /// The client refused the reply; its certificates are revoked, and the letter is valid
        /// again.
        Rejected = "rejected",
        /// Nobody confirmed in time; the effect is that of `Rejected`.
        Unconfirmed = "unconfirmed",
    }
}

column_enum! {
    /// The kind of a certificate: its holder and purpose.
    CertificateKind {
        /// The CA's own certificate.
        Ca = "ca",
        /// The key that signs CMP messages and statement responses.
        Response = "response",
        /// The TLS server's key.
        Tls = "tls",
        /// A user's signing key.
        Signing = "signing",
        /// A user's encryption key.
        Encryption = "encryption",
    }
}

column_enum! {
    /// The state of a certificate.
    CertificateState {
        /// The content is stored; a signature may exist but has not left the authority.
        Intended = "intended",
        /// Signed, but not confirmed by its user.
        Issued = "issued",
        /// In use.
        Current = "current",
        /// Replaced by a newer one.
        Superseded = "superseded",
        Revoked = "revoked",
        /// Never left the authority: its key was lost before it was archived.
        Abandoned = "abandoned",
    }
}

column_enum! {
    /// A permission beyond the use of one's own keys.
    Role {
        /// May sign statements.
        Administrator = "administrator",
    }
}
