//! How code is compiled for an instruction set and reached only where the machine has it.

/// An instruction set, as a token: a value exists only where the processor was found to have the
/// instructions, so whatever takes one may use them.
pub(crate) trait InstructionSet: Copy {
    /// Makes the call in a function that is compiled for these instructions. All that the call does
    /// with the token must be inlined into that function, or it is compiled without them.
    fn enter<C: Call<Self>>(self, call: C) -> C::Out;
}

/// A call that needs the instructions of `S`.
pub(crate) trait Call<S> {
    /// The result.
    type Out;

    /// Implementors mark this `#[inline(always)]`, and every function that it hands the token to.
    /// Closures cannot be marked so: none of them may use the token.
    fn call(self, s: S) -> Self::Out;
}

#[cfg(target_arch = "aarch64")]
pub(super) use std::arch::is_aarch64_feature_detected as detected;
#[cfg(target_arch = "x86_64")]
pub(super) use std::arch::is_x86_feature_detected as detected;

/// Defines the token of an instruction set from the one list of its features.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! token {
    ($(#[$doc:meta])* $token:ident: $($feature:tt),+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $token(());

        impl $token {
            /// `None` where the machine lacks a part of it. Cheap: the standard library asks the
            /// processor once.
            pub(super) fn detect() -> Option<Self> {
                let has_all = $($crate::simd::token::detected!($feature))&&+;
                has_all.then_some(Self(()))
            }
        }

        impl $crate::simd::token::InstructionSet for $token {
            #[inline(always)]
            fn enter<C: $crate::simd::token::Call<Self>>(self, call: C) -> C::Out {
                #[target_feature($(enable = $feature),+)]
                fn inside<C: $crate::simd::token::Call<$token>>(token: $token, call: C) -> C::Out {
                    call.call(token)
                }
                // SAFETY: the token exists, so all of its features were detected.
                unsafe { inside(self, call) }
            }
        }
    };
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) use token;
