//! The key that media of one injection process is sealed with.

use std::fmt;

use model::KeyGeneration;
use zeroize::Zeroize as _;

/// Length of an AEAD_AES_128_GCM master key (RFC 7714, section 12).
pub const KEY_BYTES: usize = 16;
/// Length of its master salt.
pub const SALT_BYTES: usize = 12;

/// One generation of the group key: SRTP master key and master salt of the profile AEAD_AES_128_GCM.
///
/// Every member of the tree that joined the broadcast holds it. It authenticates *members*, not the sender among
/// them. Wiped from memory when dropped; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct GroupKey {
    /// Which generation it is.
    pub generation: KeyGeneration,
    /// SRTP master key.
    pub key: [u8; KEY_BYTES],
    /// SRTP master salt.
    pub salt: [u8; SALT_BYTES],
}

impl fmt::Debug for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupKey").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl Drop for GroupKey {
    fn drop(&mut self) {
        self.key.zeroize();
        self.salt.zeroize();
    }
}
