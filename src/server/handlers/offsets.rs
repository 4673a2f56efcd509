//! Questions about offsets go to the shards that own the partitions, one message a shard.

use crate::base::ids::ShardId;
use crate::protocol::error::ErrorCode;
use crate::server::dispatch::Request;
use crate::server::handlers::errors;
use crate::shard::offsets::{FoundOffset, OffsetPart};
use futures_util::future::join_all;

/// Answers each of `asked`, in order; what is refused already is passed on.
pub async fn ask(
    request: &Request,
    asked: Vec<Result<OffsetPart, ErrorCode>>,
) -> Vec<Result<FoundOffset, ErrorCode>> {
    let shard = &request.server.shard;
    let mut groups: Vec<(ShardId, Vec<usize>, Vec<OffsetPart>)> = Vec::new();
    for (index, part) in asked.iter().enumerate() {
        let Ok(part) = part else { continue };
        let owner = shard.owner(part.partition);
        match groups.iter_mut().find(|group| group.0 == owner) {
            Some((_, indexes, parts)) => {
                indexes.push(index);
                parts.push(*part);
            }
            None => groups.push((owner, vec![index], vec![*part])),
        }
    }
    let refused = |part: &Result<OffsetPart, ErrorCode>| part.as_ref().err().copied();
    let mut found: Vec<Result<FoundOffset, ErrorCode>> = asked
        .iter()
        .map(|part| Err(refused(part).unwrap_or(ErrorCode::UnknownServerError)))
        .collect();
    let calls = groups
        .into_iter()
        .map(|(owner, indexes, parts)| async move { (indexes, shard.offsets(owner, parts).await) });
    for (indexes, reply) in join_all(calls).await {
        for (index, result) in indexes.into_iter().zip(reply) {
            let Ok(part) = &asked[index] else { continue };
            found[index] =
                result.map_err(|error| errors::of_fetch(&error, shard, part.partition, false));
        }
    }
    found
}
