//! Calls that make private keys, because modules differ in the accepted attributes, and calls that
//! store certificates.

#[allow(clippy::wildcard_imports, reason = "as in faulty_pkcs11.rs")]
use cryptoki_sys::*;

use super::{CallEffect, code_of, effect_of_rules, rules, wrapped};

/// Attributes that rules can name.
const ATTRIBUTES: &[(&str, CK_ATTRIBUTE_TYPE)] = &[("CKA_ALWAYS_AUTHENTICATE", CKA_ALWAYS_AUTHENTICATE)];

/// A rule with an unknown attribute would never apply: abort instead.
fn attribute_of(name: &str) -> CK_ATTRIBUTE_TYPE {
    match ATTRIBUTES.iter().find(|(known, _)| *known == name) {
        Some((_, attribute)) => *attribute,
        None => std::process::abort(),
    }
}

/// The template for the wrapped module, or the return value of a `refuse` rule. The values remain
/// the caller's.
///
/// # Safety
/// By PKCS#11, `template` points to `count` attributes.
unsafe fn adjust_template(template: *mut CK_ATTRIBUTE, count: CK_ULONG) -> Result<Vec<CK_ATTRIBUTE>, CK_RV> {
    let length = usize::try_from(count).map_err(|_| CKR_ARGUMENTS_BAD)?;
    let mut attributes = if template.is_null() || length == 0 {
        Vec::new()
    } else {
        // SAFETY: not null, and the array has this length.
        unsafe { std::slice::from_raw_parts(template, length) }.to_vec()
    };
    for rule in rules().lines() {
        match rule.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["refuse", name, code] if attributes.iter().any(|attribute| attribute.type_ == attribute_of(name)) => {
                return Err(code_of(code));
            }
            ["lose", "certificates"] if is_certificate(&attributes) => {
                for attribute in attributes.iter_mut().filter(|attribute| attribute.type_ == CKA_TOKEN) {
                    attribute.pValue = std::ptr::from_ref(&SESSION_OBJECT).cast_mut().cast();
                }
            }
            ["ignore", name] => attributes.retain(|attribute| attribute.type_ != attribute_of(name)),
            _ => {}
        }
    }
    Ok(attributes)
}

/// The replacement value of `CKA_TOKEN`: the object ends with its session.
static SESSION_OBJECT: CK_BBOOL = CK_FALSE;

fn is_certificate(attributes: &[CK_ATTRIBUTE]) -> bool {
    let class = attributes.iter().find(|attribute| attribute.type_ == CKA_CLASS && !attribute.pValue.is_null());
    // SAFETY: a class is a number of this type, by PKCS#11.
    class.is_some_and(|class| unsafe { *class.pValue.cast::<CK_OBJECT_CLASS>() } == CKO_CERTIFICATE)
}

pub(super) unsafe extern "C" fn C_CreateObject(
    session: CK_SESSION_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    object: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    // SAFETY: the caller's own arguments go to the function that they were for; the template is
    // only read.
    unsafe {
        with_template("C_CreateObject", template, count, |template, count| {
            let function = wrapped()?.C_CreateObject?;
            Some(function(session, template, count, object))
        })
    }
}

pub(super) unsafe extern "C" fn C_GenerateKeyPair(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    public: *mut CK_ATTRIBUTE,
    public_count: CK_ULONG,
    private: *mut CK_ATTRIBUTE,
    private_count: CK_ULONG,
    public_key: *mut CK_OBJECT_HANDLE,
    private_key: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    // SAFETY: the caller's own arguments go to the function that they were for; the template is
    // only read.
    unsafe {
        with_template("C_GenerateKeyPair", private, private_count, |private, private_count| {
            let function = wrapped()?.C_GenerateKeyPair?;
            Some(function(session, mechanism, public, public_count, private, private_count, public_key, private_key))
        })
    }
}

pub(super) unsafe extern "C" fn C_UnwrapKey(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    unwrapping: CK_OBJECT_HANDLE,
    wrapped_key: *mut CK_BYTE,
    length: CK_ULONG,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    key: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    // SAFETY: as above.
    unsafe {
        with_template("C_UnwrapKey", template, count, |template, count| {
            let function = wrapped()?.C_UnwrapKey?;
            Some(function(session, mechanism, unwrapping, wrapped_key, length, template, count, key))
        })
    }
}

/// # Safety
/// Those of [`adjust_template`].
unsafe fn with_template(
    name: &str,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    call: impl FnOnce(*mut CK_ATTRIBUTE, CK_ULONG) -> Option<CK_RV>,
) -> CK_RV {
    if let CallEffect::Return(code) = effect_of_rules(name) {
        return code;
    }
    // SAFETY: as the caller has it.
    match unsafe { adjust_template(template, count) } {
        Ok(mut attributes) => {
            let count = attributes.len() as CK_ULONG;
            call(attributes.as_mut_ptr(), count).unwrap_or(CKR_FUNCTION_NOT_SUPPORTED)
        }
        Err(code) => code,
    }
}
