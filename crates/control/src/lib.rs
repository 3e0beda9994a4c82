//! The limits of a running gogrid: a watched file and a socket of its owner's.

#![forbid(unsafe_code)]
