//! The calls that cryptoki 0.12.1 cannot make, and a memory mapping. This is the only `unsafe` code
//! of the crate.
//!
//! - **Single-part `C_Sign` and `C_Decrypt` separate from their init calls**, because a key with
//!   `CKA_ALWAYS_AUTHENTICATE` requires the context-specific login exactly between the two (PKCS#11
//!   v2.40 §4.9).
//! - **`C_WrapKey` with the returned length**: cryptoki keeps the length of the first, estimating
//!   call.
//! - **`CKM_AES_KEY_WRAP_KWP` (0x210B)**, for which cryptoki has no name and accepts no number.
//! - **`C_GetTokenInfo` as bytes**: a label need not be UTF-8.
//! - **`CKA_UNWRAP_TEMPLATE`**, an attribute whose value is a template.
//! - **A shared memory file** with the counts of calls ([`super::call_counts`]).
//!
//! It must only be given sessions and objects of the module that it was loaded from. Each function
//! borrows Rust values, builds the C structures from them, and keeps none after the call. Only the
//! memory file stays mapped.
#![allow(unsafe_code)] // the reason is above; everywhere else it is denied

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::AtomicU32;

use cryptoki::context::Function;
use cryptoki::error::{Error, Result, Rv};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::slot::Slot;
use cryptoki_sys::{
    CK_ATTRIBUTE, CK_FUNCTION_LIST, CK_MECHANISM, CK_MECHANISM_INFO, CK_RV, CK_TOKEN_INFO, CK_ULONG,
    CKA_UNWRAP_TEMPLATE, CKF_UNWRAP, CKF_WRAP, CKM_AES_KEY_WRAP_KWP, CKM_AES_KEY_WRAP_PAD,
};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use zeroize::Zeroizing;

use crate::token::KeyWrap;

/// Exceeds every signature, decrypted block and wrapped key used here, in bytes (RSA-4096 in
/// PKCS#8: about 2,400).
const LONGEST_OUTPUT: usize = 8192;

/// A mechanism for wrapping and unwrapping.
pub(super) enum WrapMechanism<'a> {
    /// An AES key wrap, which has no parameter.
    KeyWrap(KeyWrap),
    /// A mechanism that cryptoki can express.
    Other(Mechanism<'a>),
}

impl WrapMechanism<'_> {
    fn to_c(&self) -> CK_MECHANISM {
        let mechanism = match self {
            Self::KeyWrap(KeyWrap::Kwp) => CKM_AES_KEY_WRAP_KWP,
            Self::KeyWrap(KeyWrap::Pad) => CKM_AES_KEY_WRAP_PAD,
            Self::Other(mechanism) => return mechanism.into(),
        };
        CK_MECHANISM { mechanism, pParameter: std::ptr::null_mut(), ulParameterLen: 0 }
    }
}

/// The module's function list.
pub(super) struct RawFunctions {
    functions: CK_FUNCTION_LIST,
    // Keeps the library loaded as long as its functions can be called.
    _library: cryptoki_sys::Pkcs11,
}

impl RawFunctions {
    /// Gets the function list of a library that cryptoki has loaded: the loader returns the same
    /// instance.
    pub(super) fn load(path: &Path) -> Result<Self> {
        // SAFETY: loading runs the library's initializers, which cryptoki has just run for this
        // file.
        let library = unsafe { cryptoki_sys::Pkcs11::new(path) }.map_err(Error::LibraryLoading)?;
        let Ok(get_function_list) = library.C_GetFunctionList.as_ref() else {
            return Err(Error::MissingSymbol("C_GetFunctionList"));
        };
        let mut list: *mut CK_FUNCTION_LIST = std::ptr::null_mut();
        // SAFETY: `list` is valid for writing one pointer; C_GetFunctionList writes nothing else.
        result(unsafe { get_function_list(&raw mut list) }, Function::GetFunctionList)?;
        if list.is_null() {
            return Err(Error::NullFunctionPointer);
        }
        // SAFETY: not null; by PKCS#11 (§5.4) it points to a static structure of this layout,
        // version 2.x.
        let functions = unsafe { *list };
        Ok(Self { functions, _library: library })
    }

    /// Label, manufacturer, model and serial number as bytes without padding, each with its PKCS#11
    /// URI attribute. (cryptoki converts them to text, which loses bytes that are not UTF-8.)
    pub(super) fn token_names(&self, slot: Slot) -> Result<[(&'static str, Vec<u8>); 4]> {
        let function = self.functions.C_GetTokenInfo.ok_or(Error::NullFunctionPointer)?;
        let mut info = CK_TOKEN_INFO::default();
        // SAFETY: `info` is our own token info structure; the module checks the slot number.
        result(unsafe { function(slot.into(), &raw mut info) }, Function::GetTokenInfo)?;
        // Copies: the structure is packed on some platforms.
        let (label, manufacturer, model, serial) = (info.label, info.manufacturerID, info.model, info.serialNumber);
        let unpadded = |bytes: &[u8]| bytes.trim_ascii_end().to_vec();
        Ok([
            ("token", unpadded(&label)),
            ("manufacturer", unpadded(&manufacturer)),
            ("model", unpadded(&model)),
            ("serial", unpadded(&serial)),
        ])
    }

    /// Whether the token in this slot can wrap and unwrap with this mechanism.
    pub(super) fn can_wrap(&self, slot: Slot, mechanism: KeyWrap) -> bool {
        let Some(get_mechanism_info) = self.functions.C_GetMechanismInfo else { return false };
        let mut info = CK_MECHANISM_INFO::default();
        let kind = WrapMechanism::KeyWrap(mechanism).to_c().mechanism;
        // SAFETY: `info` is our own mechanism info structure; the module checks the slot number.
        let answer = unsafe { get_mechanism_info(slot.into(), kind, &raw mut info) };
        result(answer, Function::GetMechanismInfo).is_ok() && info.flags & (CKF_WRAP | CKF_UNWRAP) != 0
    }

    /// `C_Sign`, after `sign_init` (and, if required, the context-specific login) on the same
    /// session.
    pub(super) fn sign(&self, session: &Session, data: &[u8]) -> Result<Vec<u8>> {
        let mut output = vec![0_u8; LONGEST_OUTPUT];
        let length = self.sign_into(session, data, &mut output)?;
        output.truncate(length);
        Ok(output)
    }

    /// Like `sign`, into the caller's buffer. Returns the number of bytes written.
    pub(super) fn sign_into(&self, session: &Session, data: &[u8], output: &mut [u8]) -> Result<usize> {
        let function = self.functions.C_Sign.ok_or(Error::NullFunctionPointer)?;
        let mut length = c_length(output)?;
        let data_length = c_length(data)?;
        // SAFETY: both buffers live through the call and have these lengths; the module only reads
        // `data`.
        let answer = unsafe {
            function(session.handle(), data.as_ptr().cast_mut(), data_length, output.as_mut_ptr(), &raw mut length)
        };
        result(answer, Function::Sign)?;
        Ok(usize::try_from(length)?)
    }

    /// `C_Decrypt`, after `decrypt_init` (and, if required, the context-specific login) on the same
    /// session.
    pub(super) fn decrypt(&self, session: &Session, data: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let function = self.functions.C_Decrypt.ok_or(Error::NullFunctionPointer)?;
        let mut output = Zeroizing::new(vec![0_u8; LONGEST_OUTPUT]);
        let mut length = c_length(&output)?;
        let data_length = c_length(data)?;
        // SAFETY: both buffers live through the call and have these lengths; the module only reads
        // `data`.
        let answer = unsafe {
            function(session.handle(), data.as_ptr().cast_mut(), data_length, output.as_mut_ptr(), &raw mut length)
        };
        result(answer, Function::Decrypt)?;
        output.truncate(usize::try_from(length)?);
        Ok(output)
    }

    /// `C_WrapKey`, truncated to the returned length.
    pub(super) fn wrap_key(
        &self,
        session: &Session,
        mechanism: &WrapMechanism<'_>,
        wrapping_key: ObjectHandle,
        key: ObjectHandle,
    ) -> Result<Vec<u8>> {
        let function = self.functions.C_WrapKey.ok_or(Error::NullFunctionPointer)?;
        let mut mechanism = mechanism.to_c();
        let mut output = vec![0_u8; LONGEST_OUTPUT];
        let mut length = c_length(&output)?;
        // SAFETY: the origin of `mechanism` borrows its parameter, if any, through the call; the
        // output buffer has the given length.
        let answer = unsafe {
            function(
                session.handle(),
                &raw mut mechanism,
                wrapping_key.handle(),
                key.handle(),
                output.as_mut_ptr(),
                &raw mut length,
            )
        };
        result(answer, Function::WrapKey)?;
        output.truncate(usize::try_from(length)?);
        Ok(output)
    }

    /// `C_UnwrapKey`.
    pub(super) fn unwrap_key(
        &self,
        session: &Session,
        mechanism: &WrapMechanism<'_>,
        unwrapping_key: ObjectHandle,
        wrapped: &[u8],
        template: &[Attribute],
    ) -> Result<ObjectHandle> {
        let function = self.functions.C_UnwrapKey.ok_or(Error::NullFunctionPointer)?;
        let mut mechanism = mechanism.to_c();
        let mut attributes = c_template(template);
        let mut handle = 0;
        let wrapped_length = c_length(wrapped)?;
        let attribute_count = c_length(&attributes)?;
        // SAFETY: the attributes point into `template`, which lives through the call; the module
        // only reads it and `wrapped`.
        let answer = unsafe {
            function(
                session.handle(),
                &raw mut mechanism,
                unwrapping_key.handle(),
                wrapped.as_ptr().cast_mut(),
                wrapped_length,
                attributes.as_mut_ptr(),
                attribute_count,
                &raw mut handle,
            )
        };
        result(answer, Function::UnwrapKey)?;
        // SAFETY: the handle was just given out by the module for this session's token.
        Ok(unsafe { ObjectHandle::new_from_raw(handle) })
    }

    /// `C_GenerateKeyPair` for a private key that only unwraps keys with the given template
    /// (`CKA_UNWRAP_TEMPLATE`). Returns the public and the private key.
    pub(super) fn generate_unwrapping_key_pair(
        &self,
        session: &Session,
        mechanism: &Mechanism<'_>,
        public: &[Attribute],
        private: &[Attribute],
        unwrap_template: &[Attribute],
    ) -> Result<(ObjectHandle, ObjectHandle)> {
        let function = self.functions.C_GenerateKeyPair.ok_or(Error::NullFunctionPointer)?;
        let mut mechanism: CK_MECHANISM = mechanism.into();
        let mut public = c_template(public);
        let mut nested = c_template(unwrap_template);
        let nested_length = CK_ULONG::try_from(size_of_val(nested.as_slice()))?;
        let mut private = c_template(private);
        private.push(CK_ATTRIBUTE {
            type_: CKA_UNWRAP_TEMPLATE,
            pValue: nested.as_mut_ptr().cast(),
            ulValueLen: nested_length,
        });
        let (mut public_handle, mut private_handle) = (0, 0);
        let (public_count, private_count) = (c_length(&public)?, c_length(&private)?);
        // SAFETY: all three arrays and their values live through the call; the module only reads
        // them.
        let answer = unsafe {
            function(
                session.handle(),
                &raw mut mechanism,
                public.as_mut_ptr(),
                public_count,
                private.as_mut_ptr(),
                private_count,
                &raw mut public_handle,
                &raw mut private_handle,
            )
        };
        result(answer, Function::GenerateKeyPair)?;
        // SAFETY: both handles were just given out by the module for this session's token.
        Ok(unsafe { (ObjectHandle::new_from_raw(public_handle), ObjectHandle::new_from_raw(private_handle)) })
    }
}

/// Size in bytes of the part of the file of `call_counts` that has the counts.
pub(super) const COUNT_BYTES: usize = 4096;

/// Maps the first [`COUNT_BYTES`] bytes of a file of at least that size, for the life of the
/// process.
pub(super) fn map_counts(file: &impl AsFd) -> io::Result<&'static [AtomicU32]> {
    let (access, shared) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    // SAFETY: the kernel chooses the address; nothing else is mapped there.
    let memory = unsafe { mmap(std::ptr::null_mut(), COUNT_BYTES, access, shared, file, 0) }?;
    // SAFETY: the mapping is page-aligned, has this size, is never unmapped, and is accessed
    // through these atomics only. Every bit pattern is a valid count.
    Ok(unsafe { std::slice::from_raw_parts(memory.cast::<AtomicU32>(), COUNT_BYTES / size_of::<AtomicU32>()) })
}

impl std::fmt::Debug for RawFunctions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("RawFunctions")
    }
}

fn c_template(template: &[Attribute]) -> Vec<CK_ATTRIBUTE> {
    template.iter().map(CK_ATTRIBUTE::from).collect()
}

fn c_length<T>(slice: &[T]) -> Result<CK_ULONG> {
    Ok(CK_ULONG::try_from(slice.len())?)
}

fn result(answer: CK_RV, function: Function) -> Result<()> {
    Rv::from(answer).into_result(function)
}
