//! A PKCS#11 module for tests: SoftHSM (or another module) with the faults of real tokens on
//! demand.
//!
//! It is built as a shared library (`libfaulty_pkcs11.so`). It forwards each call to the module
//! named by `FAULTY_WRAPS`, unless a rule in the file named by `FAULTY_CONTROL` applies. The file
//! is read at each call and has one rule per line:
//!
//! - `C_Sign CKR_DEVICE_REMOVED [after N] [times N]`: returns this value, after N forwarded calls,
//!   N times (default: always)
//! - `delay C_Sign 200ms`: waits before the call
//! - `die C_Sign [after N]`: aborts the process at the call, like a crashing module
//! - `remove C_Sign [after N]`: removes the token at the call, until the file is changed
//! - `removed`: the token is removed
//! - `flags FINAL_TRY` (or `COUNT_LOW`, `LOCKED`, `WRITE_PROTECTED`): adds flags to the token
//!   information
//! - `refuse CKA_ALWAYS_AUTHENTICATE CKR_ATTRIBUTE_TYPE_INVALID`: returns this value if a private
//!   key is to be made with the attribute
//! - `ignore CKA_ALWAYS_AUTHENTICATE`: makes the private key without the attribute
//! - `lose certificates`: reports that a certificate is stored, but makes a session object, as on a
//!   full disk
//! - `die at the end`: aborts with SIGABRT in a destructor at process exit, like a module that
//!   cleans up while a thread still uses it
//! - `escape PORT PROCESS`: tries forbidden actions when it is loaded and in `C_Initialize`, and
//!   writes the results to the file named by `FAULTY_ESCAPES`
//!
//! A removed token loses its sessions and its login, like a real one; the same token comes back. N
//! counts the calls in one process since the file was changed.
//!
//! Every call with a PIN is written to the file named by `FAULTY_COUNTS`, one per line: `C_Login
//! user CKR_PIN_INCORRECT`. A line ends with `unasked` if a rule answered the call and it never
//! reached the token. Nothing else is written there, in particular no PIN.
//!
//! The program under test uses only the PKCS#11 interface and does not know this module.
#![allow(
    unsafe_code,
    reason = "this is the module side of PKCS#11, a C interface: it receives and forwards raw pointers"
)]
#![allow(non_snake_case, reason = "PKCS#11 defines the names of the functions")]

#[path = "faulty_pkcs11/escape.rs"]
mod escape;
#[path = "faulty_pkcs11/exit_handler.rs"]
mod exit_handler;
#[path = "faulty_pkcs11/private_keys.rs"]
mod private_keys;

use std::collections::HashMap;
use std::ffi::c_void;
use std::io::Write;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

#[allow(clippy::wildcard_imports, reason = "uses half of PKCS#11; the prefixes show the origin")]
use cryptoki_sys::*;

/// The wrapped module's functions. The library stays loaded.
static WRAPPED: OnceLock<Option<CK_FUNCTION_LIST>> = OnceLock::new();

/// The function list of this module.
static OWN_FUNCTIONS: OnceLock<CK_FUNCTION_LIST> = OnceLock::new();

/// The state since the last change of the control file.
static STATE: Mutex<Option<RuleState>> = Mutex::new(None);

#[derive(Default)]
struct RuleState {
    control: String,
    // Number of matching calls, by the line of the rule.
    calls: HashMap<String, u64>,
    removed: bool,
    closed: bool,
}

/// The result of the rules for a call.
enum CallEffect {
    Forward,
    Return(CK_RV),
}

/// Returns the function list. `CKR_GENERAL_ERROR` if the wrapped module cannot be loaded.
///
/// # Safety
/// By PKCS#11, `list` is null or valid for writing a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    if list.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    let Some(wrapped) = wrapped() else { return CKR_GENERAL_ERROR };
    let own = OWN_FUNCTIONS.get_or_init(|| replaced(*wrapped));
    // SAFETY: not null, and the caller owns it. Nothing writes through the returned pointer.
    unsafe { *list = std::ptr::from_ref(own).cast_mut() };
    CKR_OK
}

fn wrapped() -> Option<&'static CK_FUNCTION_LIST> {
    WRAPPED.get_or_init(load).as_ref()
}

fn load() -> Option<CK_FUNCTION_LIST> {
    let path = std::env::var_os("FAULTY_WRAPS")?;
    // SAFETY: loading runs the library's initializers; the tests use this PKCS#11 module anyway.
    let library = Box::leak(Box::new(unsafe { Pkcs11::new(path) }.ok()?));
    let mut list: *mut CK_FUNCTION_LIST = std::ptr::null_mut();
    let get = library.C_GetFunctionList.as_ref().ok()?;
    // SAFETY: `list` is valid for writing a pointer. It then points to static data of a library
    // that stays loaded.
    (unsafe { get(&raw mut list) } == CKR_OK && !list.is_null()).then(|| unsafe { *list })
}

/// Applies the rules to this call.
fn effect_of_rules(function: &str) -> CallEffect {
    let control = std::env::var_os("FAULTY_CONTROL").and_then(|path| std::fs::read_to_string(path).ok());
    let control = control.unwrap_or_default();
    let mut guard = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    let state = guard.get_or_insert_with(RuleState::default);
    if state.control != control {
        *state = RuleState { control: control.clone(), ..RuleState::default() };
    }
    let mut wait = None;
    let mut answer = None;
    for line in control.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["removed"] => state.removed = true,
            ["delay", name, time] if *name == function => wait = time.trim_end_matches("ms").parse().ok(),
            ["die", name, rest @ ..] if *name == function && state.is_due(line, rest) => std::process::abort(),
            ["remove", name, rest @ ..] if *name == function && state.is_due(line, rest) => state.removed = true,
            [name, code, rest @ ..] if *name == function && state.is_due(line, rest) => answer = Some(code_of(code)),
            _ => {}
        }
    }
    if state.removed && !state.closed {
        state.closed = true;
        close_all_sessions();
    }
    let removed = state.removed;
    // Do not block other calls during the delay.
    drop(guard);
    if let Some(wait) = wait {
        std::thread::sleep(Duration::from_millis(wait));
    }
    match answer {
        Some(code) => CallEffect::Return(code),
        None if removed => return_value_if_removed(function).map_or(CallEffect::Forward, CallEffect::Return),
        None => CallEffect::Forward,
    }
}

impl RuleState {
    /// Counts a call that matches a rule. Returns whether the rule applies to it.
    fn is_due(&mut self, line: &str, rest: &[&str]) -> bool {
        let number = |name: &str| {
            let at = rest.iter().position(|word| *word == name)?;
            rest.get(at + 1)?.parse::<u64>().ok()
        };
        let calls = self.calls.entry(line.to_owned()).or_default();
        *calls += 1;
        let after = number("after").unwrap_or(0);
        *calls > after && number("times").is_none_or(|times| *calls <= after + times)
    }
}

/// The return value while the token is removed. Slots still exist, and calls without a token
/// succeed.
fn return_value_if_removed(function: &str) -> Option<CK_RV> {
    match function {
        "C_Initialize" | "C_Finalize" | "C_GetSlotList" => None,
        "C_GetTokenInfo" | "C_OpenSession" | "C_InitToken" | "C_GetMechanismInfo" => Some(CKR_TOKEN_NOT_PRESENT),
        "C_CloseSession" | "C_GetSessionInfo" => Some(CKR_SESSION_HANDLE_INVALID),
        _ => Some(CKR_DEVICE_REMOVED),
    }
}

/// Closes all sessions, and with them the login, of the removed token.
fn close_all_sessions() {
    let Some(wrapped) = wrapped() else { return };
    let (Some(slots_of), Some(close)) = (wrapped.C_GetSlotList, wrapped.C_CloseAllSessions) else { return };
    let mut slots = [0; 64];
    let mut count = 64;
    // SAFETY: the buffer has the given length; C_CloseAllSessions takes a number.
    unsafe {
        if slots_of(CK_TRUE, slots.as_mut_ptr(), &raw mut count) == CKR_OK {
            for slot in slots.into_iter().take(usize::try_from(count).unwrap_or(0)) {
                close(slot);
            }
        }
    }
}

fn is_removed() -> bool {
    STATE.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|state| state.removed)
}

/// The rules as read at the last call.
fn rules() -> String {
    let state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    state.as_ref().map(|state| state.control.clone()).unwrap_or_default()
}

/// The additional flags of the token.
fn additional_flags() -> CK_FLAGS {
    let control = rules();
    let named = control.lines().filter_map(|line| line.strip_prefix("flags ")).flat_map(str::split_whitespace);
    named.fold(0, |flags, name| {
        flags
            | match name {
                "FINAL_TRY" => CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_COUNT_LOW,
                "COUNT_LOW" => CKF_USER_PIN_COUNT_LOW,
                "LOCKED" => CKF_USER_PIN_LOCKED,
                "WRITE_PROTECTED" => CKF_WRITE_PROTECTED,
                _ => 0,
            }
    })
}

/// Return values that rules can name.
const CODES: &[(&str, CK_RV)] = &[
    ("CKR_OK", CKR_OK),
    ("CKR_HOST_MEMORY", CKR_HOST_MEMORY),
    ("CKR_GENERAL_ERROR", CKR_GENERAL_ERROR),
    ("CKR_FUNCTION_FAILED", CKR_FUNCTION_FAILED),
    ("CKR_ACTION_PROHIBITED", CKR_ACTION_PROHIBITED),
    ("CKR_DEVICE_ERROR", CKR_DEVICE_ERROR),
    ("CKR_DEVICE_MEMORY", CKR_DEVICE_MEMORY),
    ("CKR_DEVICE_REMOVED", CKR_DEVICE_REMOVED),
    ("CKR_TOKEN_NOT_PRESENT", CKR_TOKEN_NOT_PRESENT),
    ("CKR_TOKEN_WRITE_PROTECTED", CKR_TOKEN_WRITE_PROTECTED),
    ("CKR_SESSION_COUNT", CKR_SESSION_COUNT),
    ("CKR_SESSION_HANDLE_INVALID", CKR_SESSION_HANDLE_INVALID),
    ("CKR_SESSION_CLOSED", CKR_SESSION_CLOSED),
    ("CKR_SESSION_READ_ONLY", CKR_SESSION_READ_ONLY),
    ("CKR_OBJECT_HANDLE_INVALID", CKR_OBJECT_HANDLE_INVALID),
    ("CKR_KEY_HANDLE_INVALID", CKR_KEY_HANDLE_INVALID),
    ("CKR_PIN_INCORRECT", CKR_PIN_INCORRECT),
    ("CKR_PIN_INVALID", CKR_PIN_INVALID),
    ("CKR_PIN_LEN_RANGE", CKR_PIN_LEN_RANGE),
    ("CKR_PIN_LOCKED", CKR_PIN_LOCKED),
    ("CKR_PIN_EXPIRED", CKR_PIN_EXPIRED),
    ("CKR_USER_ALREADY_LOGGED_IN", CKR_USER_ALREADY_LOGGED_IN),
    ("CKR_USER_NOT_LOGGED_IN", CKR_USER_NOT_LOGGED_IN),
    ("CKR_ATTRIBUTE_READ_ONLY", CKR_ATTRIBUTE_READ_ONLY),
    ("CKR_ATTRIBUTE_TYPE_INVALID", CKR_ATTRIBUTE_TYPE_INVALID),
    ("CKR_ATTRIBUTE_VALUE_INVALID", CKR_ATTRIBUTE_VALUE_INVALID),
    ("CKR_TEMPLATE_INCONSISTENT", CKR_TEMPLATE_INCONSISTENT),
];

/// A rule with an unknown name would never apply: abort instead.
fn code_of(name: &str) -> CK_RV {
    match CODES.iter().find(|(known, _)| *known == name) {
        Some((_, code)) => *code,
        None => std::process::abort(),
    }
}

/// Records a call with a PIN. It writes one line at once, because several processes may share the
/// file.
fn count(function: &str, user: &str, answer: CK_RV, reached_the_token: bool) {
    let Some(path) = std::env::var_os("FAULTY_COUNTS") else { return };
    let name = CODES.iter().find(|(_, code)| *code == answer).map_or("another", |(name, _)| *name);
    let line = format!("{function} {user} {name}{}\n", if reached_the_token { "" } else { " unasked" });
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
    // The check child is sandboxed and cannot write. In any other process a missing line would
    // falsify the counts.
    if written.is_err() && std::env::args().nth(1).is_none_or(|verb| verb != "token-check") {
        std::process::abort();
    }
}

/// Functions that are forwarded unless a rule applies.
macro_rules! forward {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        $(unsafe extern "C" fn $name($($argument: $type),*) -> CK_RV {
            match effect_of_rules(stringify!($name)) {
                CallEffect::Return(code) => code,
                // SAFETY: the caller's own arguments go to the function that they were for.
                CallEffect::Forward => match wrapped().and_then(|wrapped| wrapped.$name) {
                    Some(function) => unsafe { function($($argument),*) },
                    None => CKR_FUNCTION_NOT_SUPPORTED,
                },
            }
        })*

        fn replaced(mut list: CK_FUNCTION_LIST) -> CK_FUNCTION_LIST {
            $(list.$name = Some($name);)*
            list.C_GetFunctionList = Some(C_GetFunctionList);
            list.C_Initialize = Some(C_Initialize);
            list.C_GetInfo = Some(C_GetInfo);
            list.C_GetSlotList = Some(C_GetSlotList);
            list.C_GetTokenInfo = Some(C_GetTokenInfo);
            list.C_Login = Some(C_Login);
            list.C_SetPIN = Some(C_SetPIN);
            list.C_InitToken = Some(C_InitToken);
            list.C_InitPIN = Some(C_InitPIN);
            list.C_CreateObject = Some(private_keys::C_CreateObject);
            list.C_GenerateKeyPair = Some(private_keys::C_GenerateKeyPair);
            list.C_UnwrapKey = Some(private_keys::C_UnwrapKey);
            list
        }
    };
}

forward! {
    C_Finalize(reserved: *mut c_void);
    C_GetMechanismInfo(slot: CK_SLOT_ID, kind: CK_MECHANISM_TYPE, info: *mut CK_MECHANISM_INFO);
    C_OpenSession(
        slot: CK_SLOT_ID, flags: CK_FLAGS, application: *mut c_void, notify: CK_NOTIFY, session: *mut CK_SESSION_HANDLE
    );
    C_CloseSession(session: CK_SESSION_HANDLE);
    C_GetSessionInfo(session: CK_SESSION_HANDLE, info: *mut CK_SESSION_INFO);
    C_Logout(session: CK_SESSION_HANDLE);
    C_CopyObject(
        session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG,
        copy: *mut CK_OBJECT_HANDLE
    );
    C_DestroyObject(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE);
    C_GetAttributeValue(
        session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG
    );
    C_FindObjectsInit(session: CK_SESSION_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG);
    C_FindObjects(
        session: CK_SESSION_HANDLE, objects: *mut CK_OBJECT_HANDLE, most: CK_ULONG, count: *mut CK_ULONG
    );
    C_SignInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE);
    C_Sign(
        session: CK_SESSION_HANDLE, data: *mut CK_BYTE, length: CK_ULONG, signature: *mut CK_BYTE,
        signature_length: *mut CK_ULONG
    );
    C_DecryptInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE);
    C_Decrypt(
        session: CK_SESSION_HANDLE, data: *mut CK_BYTE, length: CK_ULONG, clear: *mut CK_BYTE,
        clear_length: *mut CK_ULONG
    );
    C_GenerateKey(
        session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, template: *mut CK_ATTRIBUTE, count: CK_ULONG,
        key: *mut CK_OBJECT_HANDLE
    );
    C_WrapKey(
        session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, wrapping: CK_OBJECT_HANDLE, key: CK_OBJECT_HANDLE,
        wrapped_key: *mut CK_BYTE, length: *mut CK_ULONG
    );
    C_DeriveKey(
        session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, base: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE,
        count: CK_ULONG, key: *mut CK_OBJECT_HANDLE
    );
}

unsafe extern "C" fn C_Initialize(arguments: *mut c_void) -> CK_RV {
    escape::attempt("C_Initialize");
    if let CallEffect::Return(code) = effect_of_rules("C_Initialize") {
        return code;
    }
    match wrapped().and_then(|wrapped| wrapped.C_Initialize) {
        // SAFETY: the caller's own arguments go to the function that they were for.
        Some(function) => unsafe { function(arguments) },
        None => CKR_FUNCTION_NOT_SUPPORTED,
    }
}

/// While the token is removed, the slots exist without a token.
unsafe extern "C" fn C_GetSlotList(with_token: CK_BBOOL, slots: *mut CK_SLOT_ID, count: *mut CK_ULONG) -> CK_RV {
    if let CallEffect::Return(code) = effect_of_rules("C_GetSlotList") {
        return code;
    }
    if is_removed() && with_token != CK_FALSE && !count.is_null() {
        // SAFETY: not null, and the caller's to write to.
        unsafe { *count = 0 };
        return CKR_OK;
    }
    match wrapped().and_then(|wrapped| wrapped.C_GetSlotList) {
        // SAFETY: the caller's own arguments go to the function that they were for.
        Some(function) => unsafe { function(with_token, slots, count) },
        None => CKR_FUNCTION_NOT_SUPPORTED,
    }
}

unsafe extern "C" fn C_GetInfo(info: *mut CK_INFO) -> CK_RV {
    if let CallEffect::Return(code) = effect_of_rules("C_GetInfo") {
        return code;
    }
    match wrapped().and_then(|wrapped| wrapped.C_GetInfo) {
        // SAFETY: the caller's own arguments go to the function that they were for.
        Some(function) => unsafe { function(info) },
        None => CKR_FUNCTION_NOT_SUPPORTED,
    }
}

unsafe extern "C" fn C_GetTokenInfo(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) -> CK_RV {
    if let CallEffect::Return(code) = effect_of_rules("C_GetTokenInfo") {
        return code;
    }
    let Some(function) = wrapped().and_then(|wrapped| wrapped.C_GetTokenInfo) else {
        return CKR_FUNCTION_NOT_SUPPORTED;
    };
    // SAFETY: the caller's own arguments go to the function that they were for. After success it
    // has filled `info`, which may then be changed.
    unsafe {
        let answer = function(slot, info);
        if answer == CKR_OK {
            (*info).flags |= additional_flags();
        }
        answer
    }
}

unsafe extern "C" fn C_Login(
    session: CK_SESSION_HANDLE,
    user: CK_USER_TYPE,
    pin: *mut CK_UTF8CHAR,
    length: CK_ULONG,
) -> CK_RV {
    let who = match user {
        CKU_SO => "so",
        CKU_USER => "user",
        CKU_CONTEXT_SPECIFIC => "context",
        _ => "another",
    };
    run_counted("C_Login", who, || {
        let function = wrapped()?.C_Login?;
        // SAFETY: the caller's own arguments go to the function that they were for.
        Some(unsafe { function(session, user, pin, length) })
    })
}

unsafe extern "C" fn C_SetPIN(
    session: CK_SESSION_HANDLE,
    old: *mut CK_UTF8CHAR,
    old_length: CK_ULONG,
    new: *mut CK_UTF8CHAR,
    new_length: CK_ULONG,
) -> CK_RV {
    run_counted("C_SetPIN", "old", || {
        let function = wrapped()?.C_SetPIN?;
        // SAFETY: as above.
        Some(unsafe { function(session, old, old_length, new, new_length) })
    })
}

unsafe extern "C" fn C_InitToken(
    slot: CK_SLOT_ID,
    pin: *mut CK_UTF8CHAR,
    length: CK_ULONG,
    label: *mut CK_UTF8CHAR,
) -> CK_RV {
    run_counted("C_InitToken", "so", || {
        let function = wrapped()?.C_InitToken?;
        // SAFETY: as above.
        Some(unsafe { function(slot, pin, length, label) })
    })
}

unsafe extern "C" fn C_InitPIN(session: CK_SESSION_HANDLE, pin: *mut CK_UTF8CHAR, length: CK_ULONG) -> CK_RV {
    run_counted("C_InitPIN", "new", || {
        let function = wrapped()?.C_InitPIN?;
        // SAFETY: as above.
        Some(unsafe { function(session, pin, length) })
    })
}

fn run_counted(function: &str, user: &str, call: impl FnOnce() -> Option<CK_RV>) -> CK_RV {
    let (answer, reached) = match effect_of_rules(function) {
        CallEffect::Return(code) => (code, false),
        CallEffect::Forward => (call().unwrap_or(CKR_FUNCTION_NOT_SUPPORTED), true),
    };
    count(function, user, answer, reached);
    answer
}
