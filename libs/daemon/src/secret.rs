// SPDX-License-Identifier: Apache-2.0
//! A value that cannot be printed and is wiped when dropped.

use zeroize::Zeroize;

/// Holds a secret. It implements neither `Debug` nor `Display` nor `Serialize`, so that nothing that contains one can be logged
/// by accident; the content is overwritten on drop.
///
/// ```compile_fail
/// let secret = daemon::Secret::new(String::from("password"));
/// println!("{secret:?}");
/// ```
#[derive(Clone)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps the secret.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The secret itself, for the one call that needs it.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}
