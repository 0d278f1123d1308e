//! PostgreSQL's framing, read along with what the server sends: a message, an answer or a flood beside the answers
//! that is larger than we take is refused before the driver has buffered it.
//!
//! Must not: read, wait or keep more than one message that it has to look into, each of at most
//! 64 KiB. It is a pure function of the bytes, however they are cut.

use std::collections::BTreeMap;

/// Most bytes of a message that is kept until its end: descriptions of rows, and parameters.
const KEPT: u32 = 65_536;
/// Most bytes of an error, of which the driver makes texts.
const ERROR: u32 = 1 << 20;
/// Most bytes of a notice or a notification.
const ASIDE: u32 = 65_536;
/// Most bytes until the first [`READY`]: authentication, parameters, notices.
const START: u64 = 262_144;
/// Most bytes of notices, notifications and parameters in one answer, each counted with [`OVERHEAD`].
const ASIDES: u64 = 1 << 20;
/// Most bytes of parameters with different names: the driver keeps each for as long as the session lasts.
const PARAMETERS: u64 = 262_144;
/// What a message costs the driver beside its bytes.
const OVERHEAD: u64 = 64;

const READY: u8 = b'Z';
const ROW: u8 = b'D';
const DESCRIPTION: u8 = b'T';
const PARAMETER: u8 = b'S';
const AUTHENTICATION: u8 = b'R';

/// What is taken of a server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of one row.
    pub row: u32,
    /// Bytes of one answer, rows and all.
    pub answer: u64,
    /// Whether a column may have the type of this OID; the driver asks the server for one that it does not know,
    /// and for those that this one is made of, without an end.
    pub types: fn(u32) -> bool,
}

/// Why the bytes are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// One message is too long.
    #[error("a message of type {tag:?} with {length} bytes, of which at most {limit} are taken")]
    Message { tag: char, length: u32, limit: u32 },
    /// The messages of one answer are too long together.
    #[error("an answer of more than {limit} bytes")]
    Answer { limit: u64 },
    /// Too much before the session was ready.
    #[error("more than {limit} bytes before the session was ready")]
    Start { limit: u64 },
    /// A flood beside the answers.
    #[error("notices, notifications and parameters of more than {limit} bytes in one answer")]
    Asides { limit: u64 },
    /// Ever more parameters.
    #[error("parameters of more than {limit} bytes")]
    Parameters { limit: u64 },
    /// A column of a type that is not PostgreSQL's own.
    #[error("a column of a type that none of our queries asks for (OID {oid})")]
    Type { oid: u32 },
    /// Not PostgreSQL's protocol.
    #[error("bytes that are not PostgreSQL's protocol ({0})")]
    Malformed(&'static str),
}

impl Refusal {
    /// Whether it was too much, rather than nonsense.
    pub fn is_limit(&self) -> bool {
        !matches!(self, Self::Malformed(_) | Self::Type { .. })
    }
}

#[derive(Debug)]
enum At {
    /// The one byte that answers our request for TLS.
    TlsAnswer,
    /// So many bytes of type and length.
    Header([u8; 5], usize),
    /// So many bytes to the end of a message.
    Body(u8, u32),
}

/// Where in the stream we are.
#[derive(Debug)]
pub struct Framing {
    limits: Limits,
    at: At,
    /// The body of a message that is looked into.
    kept: Vec<u8>,
    started: bool,
    answer: u64,
    asides: u64,
    parameters: BTreeMap<Vec<u8>, u64>,
}

impl Framing {
    /// The beginning of a connection; `asked_tls` if its first byte answers a request for TLS.
    pub fn new(limits: Limits, asked_tls: bool) -> Self {
        Self {
            limits,
            at: if asked_tls { At::TlsAnswer } else { At::Header([0; 5], 0) },
            kept: Vec::new(),
            started: false,
            answer: 0,
            asides: 0,
            parameters: BTreeMap::new(),
        }
    }

    /// Follows the stream over the next bytes.
    ///
    /// # Errors
    /// [`Refusal`]: the connection is of no more use.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<(), Refusal> {
        while let Some((&first, rest)) = bytes.split_first() {
            match &mut self.at {
                At::TlsAnswer => {
                    self.at = At::Header([0; 5], 0);
                    bytes = rest;
                }
                At::Header(header, read) => {
                    header[*read] = first;
                    *read += 1;
                    bytes = rest;
                    if *read == header.len() {
                        let [tag, length @ ..] = *header;
                        let length = i32::from_be_bytes(length);
                        self.begin(tag, length)?;
                    }
                }
                At::Body(tag, left) => {
                    let here = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    let (body, rest) = bytes.split_at(here);
                    if is_kept(*tag) {
                        self.kept.extend_from_slice(body);
                    }
                    *left -= u32::try_from(here).unwrap_or(*left);
                    bytes = rest;
                    if *left == 0 {
                        let tag = *tag;
                        self.end(tag)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// After type and length, before the body.
    fn begin(&mut self, tag: u8, length: i32) -> Result<(), Refusal> {
        let body = u32::try_from(length).ok().and_then(|length| length.checked_sub(4));
        let body = body.ok_or(Refusal::Malformed("a message with a length below its own"))?;
        let limit = self.longest(tag)?;
        if body > limit {
            return Err(Refusal::Message { tag: tag.into(), length: body, limit });
        }
        let cost = u64::from(body) + 5;
        self.answer = self.answer.saturating_add(cost);
        let (limit, refusal) = if self.started {
            (self.limits.answer, Refusal::Answer { limit: self.limits.answer })
        } else {
            (START, Refusal::Start { limit: START })
        };
        if matches!(tag, b'N' | b'A' | PARAMETER) {
            self.asides = self.asides.saturating_add(cost + OVERHEAD);
            let most = if self.started { ASIDES } else { START };
            if self.asides > most {
                return Err(Refusal::Asides { limit: most });
            }
        }
        if self.answer > limit {
            return Err(refusal);
        }
        self.at = At::Body(tag, body);
        if body == 0 {
            self.end(tag)?;
        }
        Ok(())
    }

    /// Most bytes of the body of a message of this type.
    fn longest(&self, tag: u8) -> Result<u32, Refusal> {
        Ok(match tag {
            // Complete, no data, suspended: empty.
            b'1' | b'2' | b'3' | b'n' | b's' | b'I' | b'c' => 0,
            READY => 1,
            b'K' | b'C' => 512,
            // To and from COPY: formats of the columns.
            b'G' | b'H' => 8_192,
            AUTHENTICATION | b'v' => 8_192,
            PARAMETER | DESCRIPTION | b't' => KEPT,
            b'N' | b'A' => ASIDE,
            b'E' => ERROR,
            ROW | b'd' => self.limits.row,
            _ => return Err(Refusal::Malformed("a message of unknown type")),
        })
    }

    /// At the end of a message.
    fn end(&mut self, tag: u8) -> Result<(), Refusal> {
        self.at = At::Header([0; 5], 0);
        if is_kept(tag) {
            let body = std::mem::take(&mut self.kept);
            match tag {
                DESCRIPTION => self.described(&body)?,
                _ => self.parameter(&body)?,
            }
        }
        if tag == READY {
            self.started = true;
            self.answer = 0;
            self.asides = 0;
        }
        Ok(())
    }

    fn parameter(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let name = body.split(|b| *b == 0).next().unwrap_or_default();
        let size = body.len() as u64 + OVERHEAD;
        self.parameters.insert(name.to_vec(), size);
        if self.parameters.values().sum::<u64>() > PARAMETERS {
            return Err(Refusal::Parameters { limit: PARAMETERS });
        }
        Ok(())
    }

    /// A description of rows: the number of columns, and of each its name, table (4 bytes), column (2), type (4),
    /// size (2), modifier (4) and format (2).
    fn described(&self, body: &[u8]) -> Result<(), Refusal> {
        let malformed = || Refusal::Malformed("a description of rows that does not hold together");
        let (count, mut rest) = body.split_first_chunk::<2>().ok_or_else(malformed)?;
        for _ in 0..u16::from_be_bytes(*count) {
            let name = rest.iter().position(|b| *b == 0).ok_or_else(malformed)?;
            let (column, after) =
                rest[name + 1..].split_first_chunk::<18>().ok_or_else(malformed)?;
            let oid = u32::from_be_bytes([column[6], column[7], column[8], column[9]]);
            if !(self.limits.types)(oid) {
                return Err(Refusal::Type { oid });
            }
            rest = after;
        }
        if rest.is_empty() { Ok(()) } else { Err(malformed()) }
    }
}

/// Whether the body of such a message is looked into.
fn is_kept(tag: u8) -> bool {
    matches!(tag, DESCRIPTION | PARAMETER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { row: 1_000, answer: 5_000, types: |oid| oid < 10_000 };

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[tag], &length.to_be_bytes()[..], body].concat()
    }

    fn ready() -> Vec<u8> {
        message(b'Z', b"I")
    }

    fn described(oid: u32) -> Vec<u8> {
        let column = [&b"x\0"[..], &[0; 6], &oid.to_be_bytes(), &[0; 8]].concat();
        message(b'T', &[&1u16.to_be_bytes()[..], &column].concat())
    }

    fn run(bytes: &[u8]) -> Result<(), Refusal> {
        Framing::new(LIMITS, false).take(bytes)
    }

    #[test]
    fn a_whole_session_passes() {
        let mut all = message(b'R', &[0; 4]);
        all.extend(message(b'S', b"server_version\x0015.1\0"));
        all.extend(message(b'K', &[0; 8]));
        all.extend(ready());
        for _ in 0..1_000 {
            all.extend([message(b'1', b""), message(b'2', b""), described(25)].concat());
            all.extend(message(b'S', b"TimeZone\0UTC\0"));
            all.extend(message(b'D', &[7; 1_000]));
            all.extend(message(b'C', b"SELECT 1\0"));
            all.extend(ready());
        }
        assert_eq!(run(&all), Ok(()));
        let mut tls = Framing::new(LIMITS, true);
        assert_eq!(tls.take(b"N").and_then(|()| tls.take(&all)), Ok(()));
    }

    #[test]
    fn what_is_too_long_is_refused_at_its_header() {
        let header = |tag: u8, length: i32| {
            let bytes = [&[tag], &length.to_be_bytes()[..]].concat();
            run(&[ready(), bytes].concat())
        };
        let long = |tag: u8, limit| Refusal::Message {
            tag: tag.into(),
            length: i32::MAX as u32 - 4,
            limit,
        };
        for (tag, limit) in
            [(b'D', 1_000), (b'E', ERROR), (b'N', ASIDE), (b'R', 8_192), (b'd', 1_000), (b'Z', 1)]
        {
            assert_eq!(header(tag, i32::MAX), Err(long(tag, limit)));
        }
        for length in [-1, 0, 3, i32::MIN] {
            assert!(matches!(header(b'D', length), Err(Refusal::Malformed(_))));
        }
        assert!(matches!(header(b'?', 10), Err(Refusal::Malformed(_))));
    }

    #[test]
    fn floods_of_small_messages_are_refused_too() {
        let flood = |one: Vec<u8>| run(&[ready(), one.repeat(200_000)].concat());
        assert_eq!(flood(message(b'D', &[0; 2])), Err(Refusal::Answer { limit: 5_000 }));
        assert_eq!(flood(message(b'1', b"")), Err(Refusal::Answer { limit: 5_000 }));
        let roomy = Limits { answer: u64::MAX, ..LIMITS };
        for (tag, body) in
            [(b'N', &b"MHello\0\0"[..]), (b'A', b"\0\0\0\x01c\0p\0"), (b'S', b"a\0b\0")]
        {
            let bytes = [ready(), message(tag, body).repeat(200_000)].concat();
            assert_eq!(
                Framing::new(roomy, false).take(&bytes),
                Err(Refusal::Asides { limit: ASIDES })
            );
        }
        assert_eq!(
            run(&message(b'R', &[0; 8_000]).repeat(99)),
            Err(Refusal::Start { limit: START })
        );
        // Names that are new with every answer stay within its limits, and add up in the driver.
        let mut all = ready();
        for i in 0..100_000 {
            all.extend(message(b'S', format!("name{i}\0x\0").as_bytes()));
            all.extend(ready());
        }
        assert_eq!(run(&all), Err(Refusal::Parameters { limit: PARAMETERS }));
    }

    #[test]
    fn only_types_of_postgresql_s_own_are_taken() {
        assert_eq!(run(&[ready(), described(16_384)].concat()), Err(Refusal::Type { oid: 16_384 }));
        let cut = message(b'T', &1u16.to_be_bytes());
        assert!(matches!(run(&[ready(), cut].concat()), Err(Refusal::Malformed(_))));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_are_cut(
            bytes in prop::collection::vec(prop_oneof![Just(b'D'), Just(b'Z'), Just(0u8), Just(5u8), any::<u8>()], 0..300),
            cuts in prop::collection::vec(1usize..9, 1..300),
        ) {
            let whole = run(&bytes);
            let mut framing = Framing::new(LIMITS, false);
            let (mut rest, mut result) = (&bytes[..], Ok(()));
            for cut in cuts.iter().cycle() {
                if rest.is_empty() || result.is_err() {
                    break;
                }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                result = framing.take(now);
                prop_assert!(framing.kept.len() <= KEPT as usize);
                rest = later;
            }
            prop_assert_eq!(result, whole);
        }
    }
}
