//! `ringmain log dump`: what a segment file holds, batch by batch, and where it is damaged.

use super::output::{Progress, human_bytes, json_bytes, json_headers, stdout};
use super::segment::{Finding, SegmentFile};
use super::timestamp::format_timestamp_ms;
use super::{CliError, Output};
use crate::base::ids::Offset;
use crate::base::limits::CLIENT_BATCH_BYTES_MAX;
use crate::protocol::batch::BatchView;
use crate::protocol::record::Record;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What is done with segment files.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Check a segment file and list its batches
    Dump(DumpArgs),
}

#[derive(Debug, Args)]
pub struct DumpArgs {
    /// Segment file, such as ringmain-data/words-0/00000000000000000000.log
    file: PathBuf,
    /// List the records of each batch, too
    #[arg(long)]
    records: bool,
    /// Say only how much there is and what is wrong
    #[arg(long, conflicts_with = "records")]
    summary: bool,
    /// Who reads the output; JSON is one object a line
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// What the whole file amounts to.
#[derive(Default)]
struct Total {
    batches_count: u64,
    records_count: u64,
    data_bytes: u64,
    faults_count: u64,
    first: Option<Offset>,
    last: Option<Offset>,
    tail: Option<(&'static str, Range<u64>)>,
    is_foreign: bool,
}

/// Does `command`.
///
/// # Errors
/// The file cannot be read, or it is damaged.
pub fn run(command: LogCommand) -> Result<(), CliError> {
    let LogCommand::Dump(args) = command;
    dump(&args, &mut stdout())
}

fn dump(args: &DumpArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let name = args.file.display().to_string();
    let refused = |error: io::Error| CliError::Failed(format!("cannot read {name}: {error}"));
    let file = File::open(&args.file).map_err(refused)?;
    if file.metadata().map_err(refused)?.is_dir() {
        return Err(CliError::Failed(format!("{name} is a directory; name a .log file in it")));
    }
    let mut segment = SegmentFile::new(file, base_of_name(&args.file)).map_err(refused)?;
    let mut dump = Dump { args, out, total: Total::default(), progress: Progress::new(true) };
    let outcome = dump.all(&mut segment);
    outcome.map_err(|error| match error {
        DumpError::Read(error) => refused(error),
        DumpError::Write(error) => CliError::output(&error),
    })?;
    if dump.total.is_foreign {
        let what = "is not a segment file: it begins with neither a batch nor zeroes";
        return Err(CliError::Failed(format!("{name} {what}")));
    }
    match dump.total.faults_count {
        0 => Ok(()),
        1 => Err(CliError::Failed(format!("{name} has 1 fault"))),
        count => Err(CliError::Failed(format!("{name} has {count} faults"))),
    }
}

/// The first offset of a segment that is named as Kafka names them.
fn base_of_name(path: &Path) -> Option<Offset> {
    let stem = path.file_stem()?.to_str()?;
    let is_number = stem.len() == 20 && stem.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { stem.parse().ok().map(Offset) } else { None }
}

/// Why the walk ended early.
enum DumpError {
    Read(io::Error),
    Write(io::Error),
}

impl From<io::Error> for DumpError {
    fn from(error: io::Error) -> DumpError {
        DumpError::Read(error) // `SegmentFile::walk` reads; what writes says so itself
    }
}

/// A walk under way.
struct Dump<'a> {
    args: &'a DumpArgs,
    out: &'a mut dyn Write,
    total: Total,
    progress: Progress,
}

impl Dump<'_> {
    fn all(&mut self, segment: &mut SegmentFile) -> Result<(), DumpError> {
        let file_bytes = segment.bytes();
        let is_listed = self.args.output == Output::Text && !self.args.summary;
        if is_listed && file_bytes > 0 {
            writeln!(
                self.out,
                "{:>12} {:>10} {:>20} {:>20} {:>8} {:>6} {:>6}  LATEST RECORD",
                "POSITION", "BYTES", "FIRST OFFSET", "LAST OFFSET", "RECORDS", "CODEC", "EPOCH"
            )
            .map_err(DumpError::Write)?;
        }
        segment.walk(|finding| {
            if let Finding::Batch { position, .. } = &finding {
                let done = format!("{} of {}", human_bytes(*position), human_bytes(file_bytes));
                self.progress.show(|_| format!("checked {done}"));
            }
            self.one(&finding).map_err(DumpError::Write)
        })?;
        self.progress.clear();
        self.finish(file_bytes).and_then(|()| self.out.flush()).map_err(DumpError::Write)
    }

    fn one(&mut self, finding: &Finding<'_>) -> io::Result<()> {
        match finding {
            Finding::Batch { position, bytes } => self.batch(*position, bytes),
            Finding::Damage { range, reason } => self.fault("damaged", range, reason),
            Finding::Torn { range, reason } => {
                let reason = format!("{reason}; no valid batch follows, recovery cuts here");
                self.fault("torn", range, &reason)
            }
            Finding::Foreign { range, reason } => {
                self.total.is_foreign = true;
                self.fault("no segment", range, reason)
            }
            Finding::Zeroes { range } => self.tail("zeroes", range),
            Finding::Recycled { range } => self.tail("recycled", range),
        }
    }

    fn batch(&mut self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let view = BatchView::first(bytes).expect("the walk parsed these bytes");
        let (first, last) = (view.base_offset(), view.last_offset());
        self.total.batches_count += 1;
        self.total.records_count += u64::from(view.records_count());
        self.total.data_bytes += bytes.len() as u64;
        self.total.first.get_or_insert(first);
        self.total.last = Some(last);
        if !self.args.summary {
            match self.args.output {
                Output::Text => self.batch_line(position, &view)?,
                Output::Json => self.json_line(&batch_json(position, &view))?,
            }
        }
        self.records(position, &view)
    }

    fn batch_line(&mut self, position: u64, view: &BatchView<'_>) -> io::Result<()> {
        let header = view.header();
        let codec = view.codec().map_or("?", |codec| codec.name());
        let flags = [
            (view.is_transactional(), " transactional"),
            (view.is_control(), " control"),
            (view.has_log_append_time(), " append time"),
        ];
        let flags: String =
            flags.iter().filter(|(is_set, _)| *is_set).map(|(_, text)| *text).collect();
        let producer = match header.producer_id.get() {
            -1 => String::new(),
            id => format!(
                " producer {id} epoch {} sequence {}",
                header.producer_epoch.get(),
                header.base_sequence.get()
            ),
        };
        writeln!(
            self.out,
            "{position:>12} {:>10} {:>20} {:>20} {:>8} {codec:>6} {:>6}  {}{flags}{producer}",
            view.bytes().len(),
            view.base_offset(),
            view.last_offset(),
            view.records_count(),
            view.leader_epoch(),
            format_timestamp_ms(view.max_timestamp()),
        )
    }

    /// Reads every record, listed or not: what does not decompress or parse is a fault.
    fn records(&mut self, position: u64, view: &BatchView<'_>) -> io::Result<()> {
        let range = position..position + view.bytes().len() as u64;
        let faulty = |reason: String| format!("offset {}: {reason}", view.base_offset());
        let records = match view.decompressed(CLIENT_BATCH_BYTES_MAX) {
            Ok(records) => records,
            Err(error) => return self.fault("damaged", &range, &faulty(error.to_string())),
        };
        let last_delta_max = view.header().last_offset_delta.get();
        let mut last_delta = -1;
        for record in view.records_in(&records) {
            let record = match record {
                Ok(record) => record,
                Err(error) => return self.fault("damaged", &range, &faulty(error.to_string())),
            };
            if record.offset_delta <= last_delta || record.offset_delta > last_delta_max {
                let reason = format!("a record with offset delta {}", record.offset_delta);
                return self.fault("damaged", &range, &faulty(reason));
            }
            last_delta = record.offset_delta;
            if self.args.records {
                self.record(view, &record)?;
            }
        }
        Ok(())
    }

    fn record(&mut self, view: &BatchView<'_>, record: &Record<'_>) -> io::Result<()> {
        let offset = Offset(view.base_offset().0.saturating_add(i64::from(record.offset_delta)));
        let timestamp_ms = view.timestamp(record.timestamp_delta);
        if self.args.output == Output::Json {
            return self.json_line(&json!({
                "type": "record",
                "offset": offset.0,
                "timestamp": timestamp_ms,
                "key": json_bytes(record.key),
                "value": json_bytes(record.value),
                "headers": json_headers(record),
            }));
        }
        write!(self.out, "{:>12} {offset}  {}", "", format_timestamp_ms(timestamp_ms))?;
        write!(self.out, "  key {}  value {}", text(record.key), text(record.value))?;
        for (name, value) in record.headers() {
            write!(self.out, "  header {}={}", name.escape_ascii(), text(value))?;
        }
        writeln!(self.out)
    }

    fn fault(&mut self, kind: &str, range: &Range<u64>, reason: &str) -> io::Result<()> {
        self.total.faults_count += 1;
        match self.args.output {
            Output::Text => writeln!(
                self.out,
                "{:>12} {:>10} FAULT: {kind}: {reason}",
                range.start,
                range.end - range.start
            ),
            Output::Json => self.json_line(&json!({
                "type": "fault",
                "kind": kind,
                "position": range.start,
                "bytes": range.end - range.start,
                "reason": reason,
            })),
        }
    }

    fn tail(&mut self, kind: &'static str, range: &Range<u64>) -> io::Result<()> {
        self.total.tail = Some((kind, range.clone()));
        Ok(())
    }

    fn finish(&mut self, file_bytes: u64) -> io::Result<()> {
        let total = &self.total;
        let tail_bytes = total.tail.as_ref().map_or(0, |(_, range)| range.end - range.start);
        if self.args.output == Output::Json {
            let summary = json!({
                "type": "summary",
                "file_bytes": file_bytes,
                "data_bytes": total.data_bytes,
                "tail": total.tail.as_ref().map(|(kind, _)| kind),
                "tail_bytes": tail_bytes,
                "batches": total.batches_count,
                "records": total.records_count,
                "first_offset": total.first.map(|offset| offset.0),
                "last_offset": total.last.map(|offset| offset.0),
                "faults": total.faults_count,
            });
            return self.json_line(&summary);
        }
        let offsets = match (total.first, total.last) {
            (Some(first), Some(last)) => format!(", offsets {first} to {last}"),
            _ => String::new(),
        };
        let (batches, records) = (total.batches_count, total.records_count);
        write!(
            self.out,
            "{batches} batches, {records} records{offsets}, {} bytes of {file_bytes}",
            total.data_bytes
        )?;
        match &total.tail {
            Some(("zeroes", range)) => {
                write!(self.out, "; from {} on prepared space (zeroes)", range.start)?;
            }
            Some((_, range)) => {
                write!(self.out, "; from {} on recycled space (older data)", range.start)?;
            }
            None => {}
        }
        match total.faults_count {
            0 => writeln!(self.out, "; no faults"),
            count => writeln!(self.out, "; FAULTS: {count}"),
        }
    }

    fn json_line(&mut self, value: &Value) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")
    }
}

fn batch_json(position: u64, view: &BatchView<'_>) -> Value {
    let header = view.header();
    json!({
        "type": "batch",
        "position": position,
        "bytes": view.bytes().len(),
        "base_offset": view.base_offset().0,
        "last_offset": view.last_offset().0,
        "records": view.records_count(),
        "codec": view.codec().map(|codec| codec.name()),
        "leader_epoch": view.leader_epoch().0,
        "base_timestamp": header.base_timestamp.get(),
        "max_timestamp": view.max_timestamp(),
        "log_append_time": view.has_log_append_time(),
        "transactional": view.is_transactional(),
        "control": view.is_control(),
        "producer_id": header.producer_id.get(),
        "producer_epoch": header.producer_epoch.get(),
        "base_sequence": header.base_sequence.get(),
    })
}

/// Bytes for a person: quoted, what is no printable ASCII escaped; `null` where there are none.
fn text(bytes: Option<&[u8]>) -> String {
    bytes.map_or("null".to_owned(), |bytes| format!("\"{}\"", bytes.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use super::super::segment::tests::batch;
    use super::*;
    use crate::protocol::compression::Codec;

    fn dumped(bytes: &[u8], output: Output, records: bool) -> (Result<(), CliError>, String) {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let file = directory.path().join("00000000000000000005.log");
        std::fs::write(&file, bytes).expect("it can be written");
        let args = DumpArgs { file, records, summary: false, output };
        let mut out = Vec::new();
        let outcome = dump(&args, &mut out);
        (outcome, String::from_utf8(out).expect("a dump is text"))
    }

    /// Goal: a dump says what is there. Method: a file of every codec, as text and as JSON.
    #[test]
    fn a_dump_lists_batches_and_records() {
        let batches = Codec::ALL.iter().enumerate();
        let data: Vec<u8> =
            batches.flat_map(|(index, codec)| batch(5 + 2 * index as i64, 2, *codec)).collect();
        let (outcome, text) = dumped(&data, Output::Text, true);
        outcome.expect("the file is whole");
        assert_eq!(text.matches("  key \"key\"  value \"value ").count(), 10, "{text}");
        assert!(text.contains("5 batches, 10 records, offsets 5 to 14, "), "{text}");
        assert!(text.ends_with("; no faults\n"), "{text}");
        let (outcome, text) = dumped(&data, Output::Json, true);
        outcome.expect("the file is whole");
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
        assert_eq!(lines.len(), 5 + 10 + 1);
        assert_eq!(lines[1]["offset"], 5);
        assert_eq!(lines[1]["headers"], json!([{ "name": "trace", "value": "1" }]));
        assert_eq!(lines[15]["records"], 10);
    }

    /// Goal: damage is told, and is a failure. Method: a wrong CRC; records that lie with a right
    /// one.
    #[test]
    fn damage_is_named_and_fails_the_command() {
        let mut data = [batch(5, 2, Codec::None), batch(7, 2, Codec::None)].concat();
        data[80] ^= 1;
        let (outcome, text) = dumped(&data, Output::Text, false);
        assert!(matches!(outcome, Err(CliError::Failed(what)) if what.ends_with("has 1 fault")));
        assert!(text.contains("FAULT: damaged: offset 5: "), "{text}");
        assert!(text.contains("1 batches, 2 records, offsets 7 to 8, "), "{text}");
        let mut data = batch(5, 3, Codec::None);
        data[23..27].copy_from_slice(&1_i32.to_be_bytes()); // last offset delta
        let crc = crc32c::crc32c(&data[21..]);
        data[17..21].copy_from_slice(&crc.to_be_bytes());
        let (outcome, text) = dumped(&data, Output::Json, false);
        assert!(outcome.is_err());
        assert!(text.contains("a record with offset delta 2"), "{text}");
    }

    /// Goal: a file of another kind is no whole segment. Method: text, long and short.
    #[test]
    fn a_text_file_is_no_segment() {
        for lines_count in [3, 10_000] {
            let text = "a line of text\n".repeat(lines_count);
            let (outcome, text) = dumped(text.as_bytes(), Output::Text, false);
            let is_told = |what: &str| what.contains("is not a segment file");
            assert!(matches!(outcome, Err(CliError::Failed(what)) if is_told(&what)));
            assert!(text.contains("FAULT: no segment: ") && !text.contains("recycled"), "{text}");
        }
    }

    /// Goal: names give the first offset only where they are Kafka's. Method: some of each.
    #[test]
    fn a_segments_name_is_its_first_offset() {
        let base = |name: &str| base_of_name(Path::new(name));
        assert_eq!(base("a/00000000000000000017.log"), Some(Offset(17)));
        assert_eq!(base("17.log"), None);
        assert_eq!(base("00000000000000000017x.log"), None);
    }
}
