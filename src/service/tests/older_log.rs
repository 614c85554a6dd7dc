//! The check of the log's older part, and the service's end after it.

use super::*;
use crate::store::StoreError;

/// Runs the service with these results of the log checks, the last element first, and returns the
/// error that ends it; `None` if it goes on.
fn end_after(log_faults: Vec<AuthorityError>) -> Option<ServiceError> {
    let (_release, released) = channel();
    let (ca, release, log_faults) = (Vec::new(), Mutex::new(released), Mutex::new(log_faults));
    let authority = Arc::new(FakeAuthority { ca, delay: Duration::ZERO, release, log_faults });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let end = runtime.block_on(async {
        tokio::time::timeout(Duration::from_millis(500), verify_older_log(authority.clone())).await.ok()
    });
    assert!(authority.log_faults.lock().unwrap().is_empty(), "the check was not repeated");
    end
}

#[test]
fn only_an_invalid_log_ends_the_service() {
    let locked = || AuthorityError::Store(StoreError::Locked("authority.db".into()));
    let broken = || AuthorityError::Log { number: 7, reason: "is missing".into() };
    assert!(end_after(Vec::new()).is_none());
    assert!(end_after(vec![locked(), AuthorityError::Random("none left".into()), locked()]).is_none());
    for faults in [vec![broken()], vec![broken(), locked()]] {
        let end = end_after(faults);
        assert!(matches!(end, Some(ServiceError::Authority(AuthorityError::Log { number: 7, .. }))), "{end:?}");
    }
}

#[test]
fn the_unit_waits_for_final_work_and_stays_down_on_a_broken_log() {
    let unit = include_str!("../../../packaging/systemd/tokenkeep-authority.service");
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    let time = Duration::from_secs(value("TimeoutStopSec=").parse().unwrap());
    assert!(time >= DRAIN_TIMEOUT + FINAL_WORK_TIMEOUT + CLOSING + Duration::from_secs(5), "{time:?}");
    assert!(value("RestartPreventExitStatus=").split(' ').any(|code| code == "9"));
}
