//! The sockets of one session description: unicast, groups of multicast, groups with sources (RFC 4607).

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;

use anyhow::Context as _;
use rtp_in::Track;
use socket2::{Domain, Protocol, Socket, Type};

use super::Input;
use crate::bind::Sockets;

/// A group with more sources is joined without them: senders are looked at in any case.
const JOINED_SOURCES_MAX: usize = 8;

/// An input and its bound sockets.
pub struct Listening {
    pub(super) input: Input,
    pub(super) ports: Vec<Bound>,
}

/// One bound socket.
pub struct Bound {
    name: String,
    socket: UdpSocket,
    track: usize,
    is_control: bool,
}

/// One socket that datagrams are read from.
pub(super) struct Port {
    pub socket: tokio::net::UdpSocket,
    /// Which track's.
    pub track: usize,
    /// RTCP comes here.
    pub is_control: bool,
}

impl Port {
    pub fn open(bound: Bound) -> io::Result<Self> {
        let Bound { socket, track, is_control, .. } = bound;
        Ok(Self { socket: tokio::net::UdpSocket::from_std(socket)?, track, is_control })
    }
}

impl Listening {
    /// The sockets alone, by name, for a supervisor to keep.
    pub fn into_sockets(self) -> impl Iterator<Item = (String, OwnedFd)> {
        self.ports.into_iter().map(|bound| (bound.name, bound.socket.into()))
    }
}

/// Takes the sockets that an input needs from `held`, and binds what is missing there.
///
/// # Errors
/// Names the port that cannot be had.
pub fn listen(input: Input, held: &mut Sockets) -> anyhow::Result<Listening> {
    let mut ports = Vec::new();
    for (index, track) in input.description.tracks.iter().enumerate() {
        let media = (track.port, false);
        let control = track.control_port.map(|port| (port, true));
        for (port, is_control) in std::iter::once(media).chain(control) {
            let place = Place::of(&input, track, port);
            let name = place.name();
            let socket = held.remove(&name).map_or_else(|| place.bind(&input), |socket| Ok(socket.into()));
            let socket = socket.with_context(|| {
                format!(
                    "cannot take plain RTP of the broadcast {} at UDP {}; --rtp-in-address chooses another address",
                    input.broadcast, place.address
                )
            })?;
            ports.push(Bound { name, socket, track: index, is_control });
        }
    }
    Ok(Listening { input, ports })
}

/// Where one socket listens.
struct Place<'a> {
    address: SocketAddr,
    /// Whose interface joins the group.
    interface: Option<IpAddr>,
    /// Whose datagrams a router is asked for.
    sources: &'a [IpAddr],
}

impl<'a> Place<'a> {
    fn of(input: &Input, track: &'a Track, port: u16) -> Self {
        let anywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let group = track.address.filter(IpAddr::is_multicast);
        let address = group.or(input.address).or(track.address).unwrap_or(anywhere);
        let sources = &track.sources.included[..];
        let is_joined_with_sources = group.is_some() && sources.len() <= JOINED_SOURCES_MAX;
        Self {
            address: (address, port).into(),
            interface: input.address.filter(|_| group.is_some()),
            sources: if is_joined_with_sources { sources } else { &[] },
        }
    }

    /// Tells the socket from every other one: one that was joined to other groups cannot stand in for it.
    fn name(&self) -> String {
        let joined = self.interface.iter().chain(self.sources).map(|address| format!("+{address}"));
        format!("rtp-in-{}{}", self.address, joined.collect::<String>())
    }

    fn bind(&self, input: &Input) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(self.address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        // As much as the machine's limit allows.
        socket.set_recv_buffer_size(input.receive_buffer_bytes)?;
        if self.address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        if self.address.ip().is_multicast() {
            // Others on this machine may listen to the group, too.
            socket.set_reuse_address(true)?;
        }
        socket.bind(&self.address.into())?;
        self.join(&socket)?;
        Ok(socket.into())
    }

    fn join(&self, socket: &Socket) -> io::Result<()> {
        match self.address.ip() {
            IpAddr::V4(group) if group.is_multicast() => {
                let interface = match self.interface {
                    Some(IpAddr::V4(interface)) => interface,
                    Some(IpAddr::V6(_)) | None => Ipv4Addr::UNSPECIFIED,
                };
                // Not what other programs on this machine have joined.
                socket.set_multicast_all_v4(false)?;
                let sources: Vec<Ipv4Addr> = self
                    .sources
                    .iter()
                    .filter_map(|source| match source {
                        IpAddr::V4(source) => Some(*source),
                        IpAddr::V6(_) => None,
                    })
                    .collect();
                if sources.is_empty() {
                    return socket.join_multicast_v4(&group, &interface);
                }
                sources.iter().try_for_each(|source| socket.join_ssm_v4(source, &group, &interface))
            }
            IpAddr::V6(group) if group.is_multicast() => {
                // Kernels before 4.20 have no such option.
                let _ = socket.set_multicast_all_v6(false);
                socket.join_multicast_v6(&group, self.interface.map_or(Ok(0), interface_index)?)
            }
            IpAddr::V4(_) | IpAddr::V6(_) => Ok(()),
        }
    }
}

/// The number of the interface that has this address.
fn interface_index(address: IpAddr) -> io::Result<u32> {
    let found = if_addrs::get_if_addrs()?.into_iter().find(|interface| interface.ip() == address);
    found.and_then(|interface| interface.index).ok_or_else(|| {
        io::Error::new(io::ErrorKind::AddrNotAvailable, format!("no interface has the address {address}"))
    })
}
