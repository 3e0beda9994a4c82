use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Bytes of a panic's message that are kept.
const TEXT_BYTES_MAX: usize = 1024;

/// Runs `work` that is not ours to trust, or that a thread must outlive: a panic in it is an error
/// with its message, and goes no further. What `work` had in its hands may be half done: the caller
/// sees to it that nothing relies on that. Every panic that is caught for good is caught here.
///
/// # Errors
/// The message of the panic, cut short where it is long.
pub fn contain<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let text = text_of(&*payload);
        discard(payload);
        text
    })
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

/// Drops what a panic carried, which may panic too. What the second panic carries is never dropped:
/// it could go on like that for ever.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(worse) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(worse);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    /// Panics as it is dropped, with another of its kind.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic_any(Self);
        }
    }

    #[test]
    fn a_panic_is_its_message_whatever_it_carries() {
        assert_eq!(contain(|| 3), Ok(3));
        assert_eq!(
            contain(|| panic!("as {}", 1)),
            Err::<(), _>("as 1".to_owned())
        );
        assert_eq!(
            contain(|| panic_any(5)),
            Err::<(), _>("no message".to_owned())
        );
        assert_eq!(
            contain(|| panic_any(Bomb)),
            Err::<(), _>("no message".to_owned())
        );
        assert_eq!(contain(|| drop(Bomb)), Err("no message".to_owned()));
    }

    #[test]
    fn a_long_message_is_cut_between_two_characters() {
        let long = "ä".repeat(TEXT_BYTES_MAX) + "b";
        let text = contain(|| {
            if true {
                panic!("a{long}")
            }
        })
        .unwrap_err();
        assert_eq!(text.len(), TEXT_BYTES_MAX - 1);
    }
}
