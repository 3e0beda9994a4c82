use std::time::Duration;

use super::rig::{Rig, options};
use crate::models::NotOpened;
use crate::options::ServeOptions;

#[test]
fn a_model_stays_while_it_is_used_and_closes_when_it_has_been_idle() {
    let rig = Rig::with(ServeOptions {
        keep_alive: Some(Duration::ZERO),
        ..options()
    });
    let models = &rig.shared.models;
    let lent = rig.wait(models.lend("one")).expect("it opens");
    rig.wait(models.close_idle());
    assert_eq!(models.opened().len(), 1, "it is used");
    let again = lent.again();
    drop(lent);
    rig.wait(models.close_idle());
    assert_eq!(models.opened().len(), 1, "it is used still");
    drop(again);
    rig.wait(models.close_idle());
    assert!(models.opened().is_empty());
    rig.wait(models.lend("one")).expect("it opens again");
}

#[test]
fn many_who_want_one_model_open_it_once() {
    let rig = Rig::new();
    let models = &rig.shared.models;
    let lent = rig.wait(async {
        let wishes = (0..20).map(|_| models.lend("one"));
        futures_util::future::join_all(wishes).await
    });
    let lent: Vec<_> = lent.into_iter().map(|one| one.expect("it opens")).collect();
    assert_eq!((models.opened().len(), lent[0].lent()), (1, 20));
}

#[test]
fn a_model_that_cannot_be_had_is_told_to_all_and_tried_again() {
    let rig = Rig::new();
    let models = &rig.shared.models;
    for _ in 0..2 {
        let unknown = rig.wait(models.lend("none")).map(drop);
        assert!(
            matches!(unknown, Err(NotOpened::Unknown { .. })),
            "{unknown:?}"
        );
        let elsewhere = rig.wait(models.lend("elsewhere")).map(drop);
        assert!(
            matches!(elsewhere, Err(NotOpened::NotHere(_))),
            "{elsewhere:?}"
        );
    }
    assert!(models.opened().is_empty());
}
