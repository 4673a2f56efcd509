//! Frames of requests and answers, and the versions that client and broker agree on.

use super::connection::Connection;
use super::error::ClientError;
use crate::io::Slice;
use crate::protocol::api::ApiKey;
use crate::protocol::error::ErrorCode;
use crate::protocol::header;
use crate::protocol::messages::Request;
use crate::protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::protocol::wire::Encoded;
use std::collections::HashMap;
use std::marker::PhantomData;

/// The lowest and highest version that a broker serves, by key.
pub type BrokerVersions = HashMap<i16, (i16, i16)>;

/// The gather list of a whole request, from its size field on.
///
/// `records` are the slices that the request calls `Records::Elsewhere`, in its order; they go out
/// uncopied. In any version that the table has; with any `correlation_id`.
pub fn request_frame<'a, R: Request<'a>>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: &str,
    records: &[Slice],
) -> Vec<Slice> {
    let client_id = Some(client_id);
    interleave(header::encode_request(version, correlation_id, client_id, request), records)
}

/// The gather list of a frame: its head, cut where the foreign `slices` go, one at each cut.
///
/// # Panics
/// The slices are not what the encoder left room for.
pub fn interleave(encoded: Encoded, slices: &[Slice]) -> Vec<Slice> {
    assert_eq!(encoded.cuts.len(), slices.len(), "every cut has its slice");
    let head_bytes = encoded.head.len();
    let head = Slice::from(encoded.head);
    if slices.is_empty() {
        return vec![head];
    }
    let mut gather = Vec::with_capacity(2 * slices.len() + 1);
    let mut from = 0;
    for (cut, slice) in encoded.cuts.iter().zip(slices) {
        assert_eq!(cut.bytes, slice.len(), "a slice fills its cut");
        if cut.position > from {
            gather.push(head.slice(from..cut.position));
        }
        gather.push(slice.clone());
        from = cut.position;
    }
    if head_bytes > from {
        gather.push(head.slice(from..head_bytes));
    }
    gather
}

/// An answer that has come in: its frame, decoded when it is looked at.
pub struct Response<R> {
    frame: Slice,
    version: i16,
    address: String,
    request: PhantomData<fn(R)>,
}

impl<R> Response<R> {
    pub(super) fn new(frame: Slice, version: i16, address: &str) -> Response<R> {
        Response { frame, version, address: address.to_owned(), request: PhantomData }
    }

    /// The frame that the body borrows from, correlation id first.
    pub fn frame(&self) -> &Slice {
        &self.frame
    }

    /// The version that was spoken.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// The body; its strings and records borrow from this response.
    ///
    /// # Errors
    /// [`ClientError::Malformed`]: the broker's bytes are no such message.
    pub fn body<'a>(&self) -> Result<R::Response<'_>, ClientError>
    where
        R: Request<'a>,
    {
        let decoded = header::decode_response::<R>(self.version, &self.frame);
        decoded.map(|(_, body)| body).map_err(|error| ClientError::Malformed {
            address: self.address.clone(),
            reason: error.to_string(),
        })
    }

    /// The same answer, told apart from the strings that its request borrowed.
    ///
    /// # Panics
    /// `Q` is another kind of request.
    pub fn detached<'a, 'q, Q: Request<'q>>(self) -> Response<Q>
    where
        R: Request<'a>,
    {
        assert_eq!(R::KEY, Q::KEY, "an answer belongs to one kind of request");
        let (frame, version, address) = (self.frame, self.version, self.address);
        Response { frame, version, address, request: PhantomData }
    }
}

/// The highest version of `key` that both sides know; `None`: there is none.
pub(super) fn common_version(key: ApiKey, theirs: &BrokerVersions) -> Option<i16> {
    let ours = key.api().versions;
    let (first, last) = theirs.get(&key.number())?;
    let version = ours.last.min(*last);
    (version >= ours.first.max(*first)).then_some(version)
}

/// Asks a fresh connection for the versions that its broker knows.
///
/// A broker that does not know our version of this very request answers in version 0 with an error
/// and its table; the request is then repeated in the highest version that it does know.
pub(super) async fn negotiate(connection: &Connection) -> Result<BrokerVersions, ClientError> {
    let key = ApiKey::ApiVersions;
    let version = key.api().versions.last;
    let response = ask_versions(connection, version).await?;
    let is_unknown = error_code(response.frame()) == Some(ErrorCode::UnsupportedVersion);
    if !is_unknown {
        return table_of(&response.body()?);
    }
    let plain: Response<ApiVersionsRequest<'_>> =
        Response::new(response.frame().clone(), 0, connection.address());
    let theirs = versions_of(&plain.body()?);
    let version = common_version(key, &theirs).filter(|common| *common < version);
    let version = version.unwrap_or(0); // a broker that names no version of it speaks the oldest
    table_of(&ask_versions(connection, version).await?.body()?)
}

/// The error code of an ApiVersions answer, which stands first in every version.
fn error_code(frame: &[u8]) -> Option<ErrorCode> {
    let code = frame.get(4..6)?;
    Some(ErrorCode::from_number(i16::from_be_bytes([code[0], code[1]])))
}

fn versions_of(body: &ApiVersionsResponse<'_>) -> BrokerVersions {
    let keys = body.api_keys.iter();
    keys.map(|api| (api.api_key, (api.min_version, api.max_version))).collect()
}

fn table_of(body: &ApiVersionsResponse<'_>) -> Result<BrokerVersions, ClientError> {
    ClientError::check(body.error_code, None, || "asking for versions".to_owned())?;
    Ok(versions_of(body))
}

async fn ask_versions(
    connection: &Connection,
    version: i16,
) -> Result<Response<ApiVersionsRequest<'static>>, ClientError> {
    let request = ApiVersionsRequest {
        client_software_name: env!("CARGO_PKG_NAME"),
        client_software_version: env!("CARGO_PKG_VERSION"),
        ..ApiVersionsRequest::default()
    };
    connection.call_version(&request, version, &[]).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::produce::{
        PartitionProduceData, ProduceRequest, TopicProduceData,
    };
    use crate::protocol::wire::Records;

    /// Goal: slices go where the encoder left room. Method: the same request with its records
    /// copied in, byte for byte, in every version.
    #[test]
    fn a_gather_list_is_the_request_with_its_records_in_place() {
        let records: [&[u8]; 2] = [b"first", b"the second"];
        let request = |elsewhere: bool| {
            let data = records.map(|bytes| PartitionProduceData {
                index: 1,
                records: match elsewhere {
                    true => Records::Elsewhere { bytes: bytes.len() },
                    false => Records::Bytes(bytes),
                },
            });
            let topic = TopicProduceData { partition_data: data.to_vec(), ..Default::default() };
            ProduceRequest { topic_data: vec![topic], ..Default::default() }
        };
        for version in 3..=13 {
            let slices = records.map(|bytes| Slice::from(bytes.to_vec()));
            let gather = request_frame(&request(true), version, 9, "me", &slices);
            let whole = request_frame(&request(false), version, 9, "me", &[]);
            let joined: Vec<u8> = gather.iter().flat_map(|slice| slice.to_vec()).collect();
            assert_eq!(joined, whole[0].to_vec(), "version {version}");
        }
    }

    /// Goal: the highest common version. Method: a broker that is older, newer, disjoint, silent.
    #[test]
    fn the_highest_common_version_is_taken() {
        let theirs = |first, last| BrokerVersions::from([(3, (first, last))]);
        assert_eq!(common_version(ApiKey::Metadata, &theirs(0, 7)), Some(7));
        assert_eq!(common_version(ApiKey::Metadata, &theirs(5, 99)), Some(13));
        assert_eq!(common_version(ApiKey::Metadata, &theirs(14, 99)), None);
        assert_eq!(common_version(ApiKey::Fetch, &theirs(0, 99)), None);
    }
}
