//! The system calls, and all the unsafe code of Media-Tree: `sendmmsg`, `recvmmsg`, `setsockopt`.
//!
//! Every function here is safe to call: it takes slices, and builds the kernel's pointers to them for the length of one
//! call only.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use crate::address::RawAddress;
use crate::control::Control;
use crate::receive::Slot;

/// Messages handed over in one system call; beyond 64 the saving per message no longer shows.
pub const BATCH: usize = 64;

/// One message to send: one datagram, or a train of them that the kernel cuts.
#[derive(Debug, Clone)]
pub struct Message {
    /// Where its bytes lie in the arena.
    pub payload: Range<usize>,
    /// Where it goes.
    pub address: RawAddress,
    /// Source address and segment length.
    pub control: Control,
    /// How many datagrams it is.
    pub segments: u16,
}

/// Sends up to [`BATCH`] messages whose payloads lie in `arena`; returns how many the kernel took.
pub fn send(socket: BorrowedFd<'_>, arena: &[u8], messages: &[Message]) -> io::Result<usize> {
    let messages = &messages[..messages.len().min(BATCH)];
    let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
    for ((message, vector), header) in messages.iter().zip(&mut vectors).zip(&mut headers) {
        let payload = &arena[message.payload.clone()];
        let vector = vector
            .write(libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() });
        header.write(header_of(
            (message.address.bytes.as_ptr().cast_mut().cast(), message.address.length),
            vector,
            (message.control.bytes.as_ptr().cast_mut().cast(), message.control.length),
        ));
    }
    // SAFETY: the first `messages.len()` headers are initialised and point to `arena`, `messages` and `vectors`, which
    // outlive the call and are not moved during it. The kernel reads through these pointers and writes only `msg_len`
    // of the headers, which are ours.
    let sent =
        unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr().cast(), messages.len() as u32, 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

/// Receives up to [`BATCH`] messages into `buffer`, `room` bytes for each of `slots` as far as it reaches; returns how
/// many came. Never blocks.
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    room: usize,
    slots: &mut [Slot],
) -> io::Result<usize> {
    let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
    let rooms = buffer.chunks_exact_mut(room);
    let mut asked = 0;
    for (((slot, room), vector), header) in slots.iter_mut().zip(rooms).zip(&mut vectors).zip(&mut headers) {
        let vector = vector.write(libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() });
        slot.address = RawAddress::room();
        slot.control.length = Control::room().length;
        header.write(header_of(
            (slot.address.bytes.as_mut_ptr().cast(), slot.address.length),
            vector,
            (slot.control.bytes.as_mut_ptr().cast(), slot.control.length),
        ));
        asked += 1;
    }
    // SAFETY: the first `asked` headers are initialised; each points to its own room of the buffer, to the address and
    // control bytes of its own slot and to its own vector, all of the lengths given, exclusively borrowed, not moved
    // during the call. No time-out is passed.
    let came = unsafe {
        let (descriptor, nowhere) = (socket.as_raw_fd(), std::ptr::null_mut());
        libc::recvmmsg(descriptor, headers.as_mut_ptr().cast(), asked, libc::MSG_DONTWAIT as _, nowhere)
    };
    if came < 0 {
        return Err(io::Error::last_os_error());
    }
    for (slot, header) in slots.iter_mut().zip(&headers).take(came as usize) {
        // SAFETY: `came` is at most `asked`, and those headers were initialised above.
        let header = unsafe { header.assume_init_ref() };
        slot.length = (header.msg_len as usize).min(room);
        slot.is_truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        slot.control.length = header.msg_hdr.msg_controllen as _;
    }
    Ok(came as usize)
}

fn header_of(
    (name, name_length): (*mut libc::c_void, u32),
    vector: &mut libc::iovec,
    (control, control_length): (*mut libc::c_void, usize),
) -> libc::mmsghdr {
    // SAFETY: `mmsghdr` is plain data of integers and raw pointers, for which all zeros is a value. (It is not built
    // field by field because it has private padding on some C libraries.)
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_name = name;
    header.msg_hdr.msg_namelen = name_length;
    header.msg_hdr.msg_iov = vector;
    header.msg_hdr.msg_iovlen = 1;
    header.msg_hdr.msg_control = control;
    header.msg_hdr.msg_controllen = control_length as _;
    header
}

/// Sets an integer option of a socket.
pub fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: `value` is a live integer of the size that is passed with its address; the kernel only reads it.
    let result = unsafe {
        let (value, size) = ((&raw const value).cast(), size_of::<i32>() as u32);
        libc::setsockopt(socket.as_raw_fd(), level, name, value, size)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
