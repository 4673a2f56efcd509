//! Frames' headers, and whole frames: from a request's bytes to its body, from an answer to bytes.

use super::api::{Api, ApiKey};
use super::messages::Request;
use super::wire::{Encoded, Reader, Version, Wire, WireError, Writer};

/// Where the encoder starts: the heads of most answers fit without growing.
const HEAD_BYTES: usize = 256;

/// Strings in headers keep the plain encoding in every version.
const PLAIN: Version = Version { number: 0, flexible: false };

/// What stands before a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    pub api: &'static Api,
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: Option<&'a str>,
}

/// A frame that can't be handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("malformed request header: {0}")]
    Malformed(#[from] WireError),
    #[error("unknown request key {key}, version {version}")]
    UnknownKey { key: i16, version: i16, correlation_id: i32 },
    /// For ApiVersions answer with a version 0 body and UNSUPPORTED_VERSION; for any other key
    /// close.
    #[error("{} is served in versions {} to {}, not {version}", api.name, api.versions.first,
        api.versions.last)]
    UnsupportedVersion { api: &'static Api, version: i16, correlation_id: i32 },
}

/// Splits a request frame (without its size) into its header and its body.
///
/// # Errors
/// See [`HeaderError`].
pub fn decode_request_header(frame: &[u8]) -> Result<(RequestHeader<'_>, &[u8]), HeaderError> {
    let mut reader = Reader::new(frame);
    let key = i16::read(&mut reader, PLAIN)?;
    let version = i16::read(&mut reader, PLAIN)?;
    let correlation_id = i32::read(&mut reader, PLAIN)?;
    let Some(key) = ApiKey::from_number(key) else {
        return Err(HeaderError::UnknownKey { key, version, correlation_id });
    };
    let api = key.api();
    if !api.versions.contains(version) {
        return Err(HeaderError::UnsupportedVersion { api, version, correlation_id });
    }
    let client_id = Wire::read(&mut reader, PLAIN)?;
    if api.request_header_flexible(version) {
        reader.tags(|_, _| Ok(false))?;
    }
    Ok((RequestHeader { api, version, correlation_id, client_id }, reader.rest()))
}

/// Reads a whole message: a request's or an answer's body.
///
/// # Errors
/// The bytes are no such message, or something is left behind it.
pub fn decode_body<'a, T: Wire<'a>>(body: &'a [u8], version: Version) -> Result<T, WireError> {
    let mut reader = Reader::new(body);
    let message = T::read(&mut reader, version)?;
    reader.finish()?;
    Ok(message)
}

/// A message alone, without size and header.
pub fn encode_body<'a>(body: &impl Wire<'a>, version: Version) -> Encoded {
    let mut writer = Writer::with_capacity(HEAD_BYTES);
    body.write(&mut writer, version);
    writer.finish()
}

/// A request's body, by its type: `decode_request::<FetchRequest>(body, header.version)`.
///
/// # Errors
/// The bytes are no such request.
pub fn decode_request<'a, T: Request<'a>>(body: &'a [u8], number: i16) -> Result<T, WireError> {
    decode_request_body(body, T::KEY.version(number))
}

/// Reads a request's body; what stands behind it is ignored, as Kafka does.
///
/// librdkafka asks for the metadata of all topics with three bytes too many (its issue 5049).
///
/// # Errors
/// The bytes are no such request.
pub fn decode_request_body<'a, T: Wire<'a>>(
    body: &'a [u8],
    version: Version,
) -> Result<T, WireError> {
    T::read(&mut Reader::new(body), version)
}

/// A request frame with its size in front.
pub fn encode_request<'a, T: Request<'a>>(
    number: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    body: &T,
) -> Encoded {
    let api = T::KEY.api();
    debug_assert!(api.versions.contains(number), "{} has no version {number}", api.name);
    let mut writer = Writer::with_capacity(HEAD_BYTES);
    writer.put(&[0; size_of::<i32>()]);
    T::KEY.number().write(&mut writer, PLAIN);
    number.write(&mut writer, PLAIN);
    correlation_id.write(&mut writer, PLAIN);
    client_id.write(&mut writer, PLAIN);
    if api.request_header_flexible(number) {
        writer.put_uvarint(0);
    }
    body.write(&mut writer, api.version(number));
    writer.finish_frame()
}

/// The frame of an answer in version `number` of `key`, with its size in front.
pub fn encode_response<'a>(
    key: ApiKey,
    number: i16,
    correlation_id: i32,
    body: &impl Wire<'a>,
) -> Encoded {
    let api = key.api();
    let mut writer = Writer::with_capacity(HEAD_BYTES);
    writer.put(&[0; size_of::<i32>()]);
    correlation_id.write(&mut writer, PLAIN);
    if api.response_header_flexible(number) {
        writer.put_uvarint(0);
    }
    body.write(&mut writer, api.version(number));
    writer.finish_frame()
}

/// Splits an answer's frame (without its size) into its correlation id and its body.
///
/// # Errors
/// The frame is shorter than a header, or its tagged fields are malformed.
pub fn decode_response_header(
    key: ApiKey,
    number: i16,
    frame: &[u8],
) -> Result<(i32, &[u8]), WireError> {
    let mut reader = Reader::new(frame);
    let correlation_id = i32::read(&mut reader, PLAIN)?;
    if key.api().response_header_flexible(number) {
        reader.tags(|_, _| Ok(false))?;
    }
    Ok((correlation_id, reader.rest()))
}

/// An answer's frame (without its size) as correlation id and body, by the type of its request.
///
/// # Errors
/// The bytes are no such answer, or something is left behind it.
pub fn decode_response<'a, 'r, T: Request<'a>>(
    number: i16,
    frame: &'r [u8],
) -> Result<(i32, T::Response<'r>), WireError> {
    let (correlation_id, body) = decode_response_header(T::KEY, number, frame)?;
    Ok((correlation_id, decode_body(body, T::KEY.version(number))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
    use crate::protocol::messages::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
    use crate::protocol::messages::metadata::MetadataRequest;
    use crate::protocol::wire::{Cut, Records};

    /// Goal: a request comes back as it was sent. Method: each version of ApiVersions.
    #[test]
    fn a_request_frame_reads_back() {
        for number in 0..=5 {
            let mut request = ApiVersionsRequest::default();
            if number >= 3 {
                request.client_software_name = "ringmain";
            }
            let frame = encode_request(number, 7, Some("me"), &request);
            let (size, rest) = frame.head.split_at(4);
            assert_eq!(size, (rest.len() as i32).to_be_bytes());
            let (header, body) = decode_request_header(rest).expect("it is whole");
            assert_eq!((header.api.key, header.version), (ApiKey::ApiVersions, number));
            assert_eq!((header.correlation_id, header.client_id), (7, Some("me")));
            assert_eq!(decode_request::<ApiVersionsRequest>(body, number), Ok(request));
            let answer =
                encode_response(header.api.key, number, 7, &ApiVersionsResponse::default());
            let answer = decode_response::<ApiVersionsRequest>(number, &answer.head[4..]);
            assert_eq!(answer.map(|(correlation_id, _)| correlation_id), Ok(7));
        }
    }

    /// Goal: librdkafka's request for the metadata of all topics is understood, three bytes too
    /// long as it is. Method: the body that librdkafka 2.16 sends in version 13; then as an answer,
    /// where nothing may be left.
    #[test]
    fn what_stands_behind_a_request_is_ignored() {
        let body = [0, 0, 0, 0, 1, 0, 0];
        let request = decode_request::<MetadataRequest>(&body, 13).expect("Kafka takes it");
        assert!(request.topics.is_none() && !request.allow_auto_topic_creation);
        let strict = decode_body::<MetadataRequest>(&body, ApiKey::Metadata.version(13));
        assert_eq!(strict, Err(WireError::TrailingBytes { count_bytes: 3 }));
    }

    /// Goal: what can't be served is named. Method: an unknown key, a version too far, a short
    /// frame.
    #[test]
    fn headers_that_cannot_be_served_say_why() {
        let frame = [0, 4, 0, 1, 0, 0, 0, 9, 0xff, 0xff];
        let unknown = HeaderError::UnknownKey { key: 4, version: 1, correlation_id: 9 };
        assert_eq!(decode_request_header(&frame), Err(unknown));
        let frame = [0, 18, 0, 99, 0, 0, 0, 9];
        assert!(matches!(
            decode_request_header(&frame),
            Err(HeaderError::UnsupportedVersion { version: 99, correlation_id: 9, .. })
        ));
        assert!(matches!(decode_request_header(&frame[..7]), Err(HeaderError::Malformed(_))));
    }

    /// Goal: records stay out of the head and are counted in the sizes. Method: two partitions with
    /// records elsewhere; put the slices into the cuts and decode the whole.
    #[test]
    fn records_elsewhere_leave_cuts_that_the_sender_fills() {
        let records: [&[u8]; 2] = [b"first", b"second one"];
        let partitions = records.map(|records| PartitionData {
            records: Records::Elsewhere { bytes: records.len() },
            ..PartitionData::default()
        });
        let topic =
            FetchableTopicResponse { partitions: partitions.to_vec(), ..Default::default() };
        let response = FetchResponse { responses: vec![topic], ..Default::default() };
        for number in 4..=18 {
            let encoded = encode_response(ApiKey::Fetch, number, 1, &response);
            assert_eq!(encoded.cuts.len(), 2);
            let mut frame = Vec::new();
            let mut taken = 0;
            for (cut, records) in encoded.cuts.iter().zip(records) {
                assert_eq!(*cut, Cut { position: cut.position, bytes: records.len() });
                frame.extend_from_slice(&encoded.head[taken..cut.position]);
                frame.extend_from_slice(records);
                taken = cut.position;
            }
            frame.extend_from_slice(&encoded.head[taken..]);
            assert_eq!(frame.len(), encoded.bytes());
            assert_eq!(frame[..4], (frame.len() as i32 - 4).to_be_bytes());
            let (_, back) = decode_response::<crate::protocol::messages::fetch::FetchRequest<'_>>(
                number,
                &frame[4..],
            )
            .expect("it is whole");
            let back = &back.responses[0].partitions;
            assert_eq!(back[0].records, Records::Bytes(records[0]));
            assert_eq!(back[1].records.bytes(), records[1]);
        }
    }
}
