//! A TCP proxy that behaves like the worst lines we know, between a device and its broker, as a seed decides.
//!
//! Each connection gets a fate: it works; it is cut at byte N, with a reset or an end; it turns into a black hole that takes
//! everything and passes nothing on; it half opens (the device's bytes are not even taken any more); each piece is late; or
//! the device's MQTT PUBLISH packets pass twice. Black holes and half-open connections end after a while, as keep-alives
//! would end them, so that a test gets on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::sleep;

use crate::random::Random;

/// Bytes taken at a time.
const PIECE_BYTES: usize = 16 << 10;

/// Connections that may be open at a time: more are not accepted until one ends.
const CONNECTIONS_MAX: usize = 256;

/// Longest MQTT packet that is doubled; a longer one passes once.
const DOUBLED_BYTES_MAX: usize = 1 << 20;

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing bad.
    Works,
    /// It ends after so many bytes, both directions counted together.
    Cut {
        /// Bytes that still pass.
        at_bytes: u64,
        /// With a reset instead of an end.
        reset: bool,
    },
    /// After so many bytes everything is taken and nothing passes.
    BlackHole {
        /// Bytes that still pass.
        at_bytes: u64,
        /// How long until it ends.
        lasts: Duration,
    },
    /// After so many bytes of the device nothing is taken from it any more; what comes for it still passes.
    HalfOpen {
        /// Bytes that still pass.
        at_bytes: u64,
        /// How long until it ends.
        lasts: Duration,
    },
    /// Each piece is late.
    Late {
        /// By so much.
        by: Duration,
    },
    /// One in so many PUBLISH packets of the device passes twice.
    Double {
        /// Of how many one is doubled, at least 1.
        one_in: u64,
    },
}

impl Fate {
    fn draw(random: &mut Random) -> Self {
        // From a few packets to some seconds of a fast drain: 2^10 to 2^22 bytes.
        let at_bytes = random.between(1 << 9, 1 << 10) << random.below(13);
        let lasts = Duration::from_millis(random.between(200, 1500));
        match random.below(10) {
            0..=2 => Self::Works,
            3 | 4 => Self::Cut { at_bytes, reset: random.chance(1, 2) },
            5 => Self::BlackHole { at_bytes, lasts },
            6 => Self::HalfOpen { at_bytes, lasts },
            7 => Self::Late { by: Duration::from_millis(random.between(1, 40)) },
            _ => Self::Double { one_in: random.between(1, 4) },
        }
    }
}

/// What was done.
#[derive(Debug, Default)]
pub struct Tally {
    /// Connections made.
    pub connections: AtomicU64,
    /// Cut at byte N.
    pub cuts: AtomicU64,
    /// Turned into black holes.
    pub black_holes: AtomicU64,
    /// Half opened.
    pub half_open: AtomicU64,
    /// Pieces that were late.
    pub late: AtomicU64,
    /// Packets that passed twice.
    pub doubled: AtomicU64,
}

/// The proxy; it ends, with all its connections, when dropped.
#[derive(Debug)]
pub struct ChaosProxy {
    address: SocketAddr,
    tally: Arc<Tally>,
    calm: Arc<AtomicBool>,
    _runtime: Runtime,
}

impl ChaosProxy {
    /// Starts one on a free loopback port, in front of `target`.
    ///
    /// # Errors
    /// When there is no port or no thread.
    pub fn start(target: SocketAddr, seed: u64) -> anyhow::Result<Self> {
        Self::start_with(target, Random::new(seed), Fate::draw)
    }

    /// As [`ChaosProxy::start`], with every connection of one fate.
    ///
    /// # Errors
    /// When there is no port or no thread.
    pub fn start_all(target: SocketAddr, fate: Fate) -> anyhow::Result<Self> {
        Self::start_with(target, Random::new(0), move |_| fate)
    }

    fn start_with(
        target: SocketAddr,
        random: Random,
        draw: impl Fn(&mut Random) -> Fate + Send + 'static,
    ) -> anyhow::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("proxy").enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let (tally, calm) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
        runtime.spawn(accept(listener, target, random, draw, Arc::clone(&tally), Arc::clone(&calm)));
        Ok(Self { address, tally, calm, _runtime: runtime })
    }

    /// Where the device finds it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was done so far.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// From now on new connections work.
    pub fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    mut random: Random,
    draw: impl Fn(&mut Random) -> Fate,
    tally: Arc<Tally>,
    calm: Arc<AtomicBool>,
) {
    let open = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&open).acquire_owned().await else { return };
        let Ok((device, _)) = listener.accept().await else { continue };
        let drawn = draw(&mut random);
        let fate = if calm.load(Ordering::Relaxed) { Fate::Works } else { drawn };
        let (random, tally) = (Random::new(random.number()), Arc::clone(&tally));
        tokio::spawn(async move {
            tally.connections.fetch_add(1, Ordering::Relaxed);
            // A line that breaks is what this is for.
            drop(Line { fate, passed: AtomicU64::new(0), tally: &tally }.run(device, target, random).await);
            drop(permit);
        });
    }
}

/// One connection.
struct Line<'a> {
    fate: Fate,
    /// Bytes that have passed, both directions together.
    passed: AtomicU64,
    tally: &'a Tally,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    FromDevice,
    ToDevice,
}

/// How a direction ended.
enum End {
    /// The line ends.
    Closed,
    /// Nothing passes any more, and this is how long that lasts.
    Silent(Duration),
}

impl Line<'_> {
    async fn run(&self, mut device: TcpStream, target: SocketAddr, random: Random) -> io::Result<()> {
        let mut broker = TcpStream::connect(target).await?;
        device.set_nodelay(true)?;
        broker.set_nodelay(true)?;
        let end = {
            let (from_device, to_device) = device.split();
            let (from_broker, to_broker) = broker.split();
            let up = self.pump(Way::FromDevice, from_device, to_broker, random);
            let down = self.pump(Way::ToDevice, from_broker, to_device, Random::new(0));
            tokio::pin!(up, down);
            tokio::select! {
                end = &mut up => match end? {
                    // Half open: what comes for the device still passes.
                    End::Silent(lasts) if matches!(self.fate, Fate::HalfOpen { .. }) => {
                        tokio::select! { () = sleep(lasts) => End::Closed, end = &mut down => end? }
                    }
                    end => end,
                },
                end = &mut down => end?,
            }
        };
        if let End::Silent(lasts) = end {
            self.swallow(&mut device, &mut broker, lasts).await?;
        }
        if matches!(self.fate, Fate::Cut { reset: true, .. }) {
            for socket in [&device, &broker] {
                rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO))?;
            }
        }
        Ok(())
    }

    /// Passes bytes on in one direction until the line's fate or an end comes.
    async fn pump(&self, way: Way, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, random: Random) -> io::Result<End> {
        let mut piece = vec![0; PIECE_BYTES];
        let mut doubler = match (self.fate, way) {
            (Fate::Double { one_in }, Way::FromDevice) => Some(Doubler::new(one_in, random)),
            _ => None,
        };
        loop {
            let read = from.read(&mut piece).await?;
            if read == 0 {
                return Ok(End::Closed);
            }
            let bytes = &piece[..read];
            let passes = self.passes(way, bytes.len());
            if let Some(doubler) = &mut doubler {
                let doubled = doubler.take(bytes);
                self.tally.doubled.fetch_add(doubled.packets, Ordering::Relaxed);
                to.write_all(&doubled.bytes).await?;
                continue;
            }
            if let Fate::Late { by } = self.fate {
                self.tally.late.fetch_add(1, Ordering::Relaxed);
                sleep(by).await;
            }
            to.write_all(&bytes[..passes]).await?;
            if passes < bytes.len()
                && let Some(end) = self.end(way)
            {
                return Ok(end);
            }
        }
    }

    /// How many of the next bytes pass.
    fn passes(&self, way: Way, bytes: usize) -> usize {
        let at_bytes = match self.fate {
            Fate::HalfOpen { .. } if way == Way::ToDevice => return bytes,
            Fate::Cut { at_bytes, .. } | Fate::BlackHole { at_bytes, .. } | Fate::HalfOpen { at_bytes, .. } => at_bytes,
            Fate::Works | Fate::Late { .. } | Fate::Double { .. } => u64::MAX,
        };
        let before = self.passed.fetch_add(bytes as u64, Ordering::Relaxed);
        usize::try_from(at_bytes.saturating_sub(before)).unwrap_or(usize::MAX).min(bytes)
    }

    /// What happens where no more bytes pass.
    fn end(&self, way: Way) -> Option<End> {
        let (count, end) = match self.fate {
            Fate::Cut { .. } => (&self.tally.cuts, End::Closed),
            Fate::BlackHole { lasts, .. } => (&self.tally.black_holes, End::Silent(lasts)),
            Fate::HalfOpen { lasts, .. } if way == Way::FromDevice => (&self.tally.half_open, End::Silent(lasts)),
            Fate::HalfOpen { .. } | Fate::Works | Fate::Late { .. } | Fate::Double { .. } => return None,
        };
        count.fetch_add(1, Ordering::Relaxed);
        Some(end)
    }

    /// Takes everything and passes nothing on.
    async fn swallow(&self, device: &mut TcpStream, broker: &mut TcpStream, lasts: Duration) -> io::Result<()> {
        let (mut one, mut other) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
        let over = sleep(lasts);
        tokio::pin!(over);
        loop {
            let read = tokio::select! {
                () = &mut over => return Ok(()),
                read = device.read(&mut one) => read?,
                read = broker.read(&mut other) => read?,
            };
            if read == 0 {
                return Ok(());
            }
        }
    }
}

/// Cuts a stream of MQTT packets into packets and doubles some of those that publish.
struct Doubler {
    one_in: u64,
    random: Random,
    /// The beginning of a packet whose end has not come.
    held: Vec<u8>,
    /// Bytes of a packet too long to be held that still pass as they come.
    passing: usize,
}

/// What passes instead.
struct Doubled {
    bytes: Vec<u8>,
    packets: u64,
}

impl Doubler {
    fn new(one_in: u64, random: Random) -> Self {
        Self { one_in, random, held: Vec::new(), passing: 0 }
    }

    fn take(&mut self, bytes: &[u8]) -> Doubled {
        let mut out = Doubled { bytes: Vec::with_capacity(bytes.len() * 2), packets: 0 };
        let (pass, hold) = bytes.split_at(self.passing.min(bytes.len()));
        self.passing -= pass.len();
        out.bytes.extend_from_slice(pass);
        self.held.extend_from_slice(hold);
        while let Some(length) = packet_bytes(&self.held) {
            if length > DOUBLED_BYTES_MAX {
                self.passing = length.saturating_sub(self.held.len());
                let now = length.min(self.held.len());
                out.bytes.extend(self.held.drain(..now));
                continue;
            }
            if self.held.len() < length {
                break;
            }
            let publishes = self.held[0] >> 4 == 3;
            out.bytes.extend_from_slice(&self.held[..length]);
            if publishes && self.random.chance(1, self.one_in) {
                out.bytes.extend_from_slice(&self.held[..length]);
                out.packets += 1;
            }
            self.held.drain(..length);
        }
        out
    }
}

/// Length of the MQTT packet that begins here, head included; `None` until enough of its head has come.
fn packet_bytes(bytes: &[u8]) -> Option<usize> {
    let mut length = 0;
    for (at, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some(2 + at + length);
        }
    }
    // Four bytes that all say "more": no MQTT. Whoever reads it will end the connection.
    (bytes.len() >= 5).then_some(bytes.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read as _, Write as _};
    use std::net;

    use super::*;

    /// Somebody who sends back what comes, one connection.
    fn echo() -> SocketAddr {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut reader = socket.try_clone().unwrap();
            io::copy(&mut reader, &mut socket)
        });
        address
    }

    /// What comes back of what is sent: until the line ends, or all of it is there.
    fn through(fate: Fate, send: &[u8]) -> (Vec<u8>, ChaosProxy) {
        let proxy = ChaosProxy::start_all(echo(), fate).unwrap();
        let mut socket = net::TcpStream::connect(proxy.address()).unwrap();
        socket.write_all(send).unwrap();
        let (mut got, mut byte) = (Vec::new(), [0]);
        while got.len() < send.len() && matches!(socket.read(&mut byte), Ok(1)) {
            got.push(byte[0]);
        }
        (got, proxy)
    }

    #[test]
    fn a_cut_passes_exactly_its_bytes_and_ends() {
        for reset in [false, true] {
            let (got, proxy) = through(Fate::Cut { at_bytes: 10, reset }, &[7; 100]);
            assert!(got.is_empty(), "the tenth byte was the line's last");
            assert_eq!(proxy.tally().cuts.load(Ordering::Relaxed), 1);
        }
        let (got, _) = through(Fate::Cut { at_bytes: 105, reset: false }, &[7; 100]);
        assert_eq!(got, [7; 5]);
    }

    #[test]
    fn a_black_hole_and_a_half_open_line_give_nothing_and_end() {
        let lasts = Duration::from_millis(50);
        let (got, proxy) = through(Fate::BlackHole { at_bytes: 0, lasts }, b"hello");
        assert_eq!((got.len(), proxy.tally().black_holes.load(Ordering::Relaxed)), (0, 1));
        let (got, proxy) = through(Fate::HalfOpen { at_bytes: 3, lasts }, b"hello");
        assert_eq!((got, proxy.tally().half_open.load(Ordering::Relaxed)), (b"hel".to_vec(), 1));
    }

    #[test]
    fn publishes_are_doubled_however_they_are_cut_into_pieces_and_nothing_else_is() {
        let connect = [0x10, 2, 1, 2];
        let publish = [&[0x32, 0xc8, 1][..], &[9; 200]].concat();
        let sent = [&connect[..], &publish, &publish, &connect].concat();
        let wanted = [&connect[..], &publish, &publish, &publish, &publish, &connect].concat();
        for size in [1, 2, 3, 64, 1000] {
            let mut doubler = Doubler::new(1, Random::new(1));
            let out: Vec<u8> = sent.chunks(size).flat_map(|piece| doubler.take(piece).bytes).collect();
            assert_eq!(out, wanted, "in pieces of {size}");
        }
    }

    #[test]
    fn a_long_packet_passes_once() {
        let length = DOUBLED_BYTES_MAX + 1;
        let mut packet =
            vec![0x32, (length & 0x7f) as u8 | 0x80, (length >> 7 & 0x7f) as u8 | 0x80, (length >> 14) as u8];
        packet.resize(4 + length, 5);
        packet.extend([0x32, 1, 6]);
        let mut doubler = Doubler::new(1, Random::new(1));
        let out: Vec<u8> = packet.chunks(999).flat_map(|piece| doubler.take(piece).bytes).collect();
        assert_eq!((out.len(), &out[out.len() - 6..]), (packet.len() + 3, &[0x32, 1, 6, 0x32, 1, 6][..]));
    }

    #[test]
    fn a_late_line_brings_everything() {
        let (got, proxy) = through(Fate::Late { by: Duration::from_millis(5) }, b"hello");
        assert_eq!(got, b"hello");
        assert!(proxy.tally().late.load(Ordering::Relaxed) >= 2);
    }
}
