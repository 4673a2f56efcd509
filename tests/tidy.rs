//! House rules that the compiler cannot check: the layer picture, sizes, fences, the tour.
//!
//! [`LAYERS`] *is* the architecture: to add an edge, edit the table in a commit of its own and say
//! why. Rules read tokens, not syntax trees: comments and string contents are blanked first, so a
//! rule sees only code, and what is left is plain enough for a hand-made reader.
//!
//! **Invariant:** every rule has a test below that plants its fault and sees it named.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// Longest file, lines: more than that is two subjects.
const FILE_LINES_MAX: usize = 1_000;
/// Longest function, lines from `fn` to its closing brace: what a screen shows at once.
const FUNCTION_LINES_MAX: usize = 70;
/// Longest line, columns. rustfmt leaves comments and strings alone, so it is checked here.
const LINE_COLUMNS_MAX: usize = 100;

/// The broker's own layers, in order: what `config`, `node` and `main` may use.
const ALL: &[&str] = &[
    "base",
    "protocol",
    "consensus",
    "io",
    "storage",
    "security",
    "coordinator",
    "cluster",
    "shard",
    "server",
    "admin",
    "client",
    "cli",
];

/// `(module, modules it may name)`, bottom layer first. A row names only rows above it.
const LAYERS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("protocol", &["base"]),
    ("consensus", &["base"]),
    ("io", &["base"]),
    ("storage", &["base", "protocol", "io"]),
    ("security", &["base", "protocol", "io"]),
    ("coordinator", &["base", "protocol"]),
    ("cluster", &["base", "protocol", "consensus", "io", "storage", "security"]),
    ("shard", &["base", "protocol", "io", "storage", "security", "coordinator", "cluster"]),
    (
        "server",
        &["base", "protocol", "io", "storage", "security", "coordinator", "cluster", "shard"],
    ),
    ("admin", &["base", "io", "cluster", "shard"]),
    ("client", &["base", "protocol", "io"]),
    ("cli", &["base", "protocol", "io", "client"]),
    ("bench", &["base", "protocol", "io", "client"]),
    ("config", ALL),
    ("node", &[ALL_AND, "config"]),
    ("main", &[ALL_AND, "config", "node"]),
    ("tests", &[ALL_AND, "config", "node"]),
];
/// In a row of [`LAYERS`]: every module of [`ALL`].
const ALL_AND: &str = "*";

/// `(outside crate, the modules that may name it)`.
const FENCED_CRATES: &[(&str, &[&str])] = &[
    ("io_uring", &["io"]),
    ("async_task", &["io"]),
    ("raft", &["consensus"]),
    ("rustls", &["security"]),
    ("kafka_protocol", &["tests"]),
    ("anyhow", &["main", "bench", "tests"]),
];

/// The one folder of src where `unsafe` may stand.
const UNSAFE_FOLDER: &str = "io";
/// Macros that say that something is not finished.
const UNFINISHED_MACROS: &[&str] = &["todo", "unimplemented", "dbg"];
/// Comment marks that say the same.
const UNFINISHED_MARKS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME")];
/// The file whose module doc is the tour of the code.
const TOUR_FILE: &str = "src/lib.rs";

#[test]
fn the_tree_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in ["src", "bench", "tests"] {
        rust_files(&root.join(folder), &mut paths);
    }
    paths.sort();
    let mut sources = Vec::with_capacity(paths.len());
    for path in &paths {
        let name = path.strip_prefix(root).expect("found under root").display().to_string();
        sources.push(Source::new(&name, &fs::read_to_string(path).expect("source is UTF-8")));
    }
    assert!(sources.iter().any(|source| source.name == TOUR_FILE), "the walk found no tour");
    let faults = faults_of(&sources);
    assert!(faults.is_empty(), "{} faults\n{}\n", faults.len(), faults.join("\n"));
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("folder is readable") {
        let path = entry.expect("entry is readable").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every fault of the tree, one line each, in file order; the tour's last.
fn faults_of(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    let test_only: Vec<String> = sources.iter().flat_map(Source::test_only_children).collect();
    for source in sources {
        check_sizes(source, &mut faults);
        check_functions(source, &mut faults);
        check_module_doc(source, &mut faults);
        check_imports(source, &mut faults);
        check_unsafe(source, &mut faults);
        if !test_only.contains(&source.module_file()) {
            check_unwrap(source, &mut faults);
        }
        check_unfinished(source, &mut faults);
    }
    check_tour(sources, &mut faults);
    faults.dedup(); // two leaves of one `use` group
    faults
}

// ---- reading a file ---------------------------------------------------------------------------

/// One Rust file, read for the rules.
#[derive(Clone)]
struct Source {
    name: String,     // from the root of the repository: `src/io/ring.rs`
    text: String,     // as it is
    comments: String, // comments only, all else blank; lines stay in place
    tokens: Vec<Token>,
}

#[derive(Clone)]
struct Token {
    text: String, // an identifier or number, `::`, or one mark
    line: usize,  // 1-based
    in_test: bool,
}

impl Source {
    fn new(name: &str, text: &str) -> Source {
        let (code, comments) = split_code_and_comments(text);
        let mut tokens = tokenize(&code);
        mark_test_code(&mut tokens);
        let stem = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".rs");
        if name.starts_with("tests/") || stem == "tests" || stem.ends_with("_tests") {
            tokens.iter_mut().for_each(|token| token.in_test = true);
        }
        Source { name: name.to_owned(), text: text.to_owned(), comments, tokens }
    }

    /// The row of [`LAYERS`] that this file belongs to; `lib` for the tour.
    fn module(&self) -> &str {
        let (top, rest) = self.name.split_once('/').expect("below a top-level folder");
        if top == "src" { rest.split(['/', '.']).next().unwrap_or(rest) } else { top }
    }

    /// How many `super` lead from this file's module to the root of the crate.
    fn module_depth(&self) -> usize {
        self.module_file().split('/').count() - 1
    }

    /// `src/io/ring` for `src/io/ring.rs`, `src/io` for `src/io/mod.rs`.
    fn module_file(&self) -> String {
        self.name.trim_end_matches(".rs").trim_end_matches("/mod").to_owned()
    }

    /// Modules in files of their own that are declared for tests only, as [`Source::module_file`].
    fn test_only_children(&self) -> Vec<String> {
        let folder = match self.name.as_str() {
            TOUR_FILE => "src".to_owned(),
            _ => self.module_file(),
        };
        let declared = (0..self.tokens.len()).filter(|index| {
            self.tokens[*index].in_test
                && self.text_at(*index) == "mod"
                && self.text_at(index + 2) == ";"
        });
        declared.map(|index| format!("{folder}/{}", self.text_at(index + 1))).collect()
    }

    fn text_at(&self, index: usize) -> &str {
        self.tokens.get(index).map_or("", |token| &token.text)
    }

    /// True where the tokens from `index` on read exactly `expected`.
    fn reads(&self, index: usize, expected: &[&str]) -> bool {
        expected.iter().enumerate().all(|(step, text)| self.text_at(index + step) == *text)
    }

    /// Index of the mark that closes the one at `open`, or the end of the file.
    fn closing(&self, open: usize) -> usize {
        closing(&self.tokens, open)
    }
}

/// The code with comments and literal contents blanked, and the comments alone. Both keep the
/// text's lines.
fn split_code_and_comments(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut comments) = (String::new(), String::new());
    let mut at = 0;
    while at < chars.len() {
        let (end, is_comment) = match literal_or_comment(&chars, at) {
            Some(found) => found,
            None => {
                code.push(chars[at]);
                comments.push(if chars[at] == '\n' { '\n' } else { ' ' });
                at += 1;
                continue;
            }
        };
        for c in &chars[at..end] {
            let blank = if *c == '\n' { '\n' } else { ' ' };
            code.push(blank);
            comments.push(if is_comment { *c } else { blank });
        }
        at = end;
    }
    (code, comments)
}

/// Where the comment or literal that begins at `at` ends, and whether it is a comment.
fn literal_or_comment(chars: &[char], at: usize) -> Option<(usize, bool)> {
    let next = |step: usize| chars.get(at + step).copied().unwrap_or('\0');
    let end_after = |from: usize, stop: &[char]| {
        let found = (from..chars.len()).find(|index| chars[*index..].starts_with(stop));
        found.map_or(chars.len(), |index| index + stop.len())
    };
    match (next(0), next(1)) {
        ('/', '/') => {
            let line_chars = chars[at..].iter().take_while(|c| **c != '\n').count();
            Some((at + line_chars, true))
        }
        ('/', '*') => Some((end_after(at + 2, &['*', '/']), true)),
        ('"', _) => Some((end_of_quoted(chars, at, '"'), false)),
        ('\'', '\\') => Some((end_of_quoted(chars, at, '\''), false)),
        ('\'', _) if next(2) == '\'' => Some((at + 3, false)), // else a lifetime
        ('r', '"' | '#') if at == 0 || !is_word(chars[at - 1]) || chars[at - 1] == 'b' => {
            let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
            if next(1 + hashes) != '"' {
                return None; // r#type
            }
            let mut stop = vec!['"'];
            stop.resize(1 + hashes, '#');
            Some((end_after(at + 2 + hashes, &stop), false))
        }
        _ => None,
    }
}

fn end_of_quoted(chars: &[char], at: usize, quote: char) -> usize {
    let mut index = at + 1;
    while index < chars.len() && chars[index] != quote {
        index += if chars[index] == '\\' { 2 } else { 1 };
    }
    (index + 1).min(chars.len())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn tokenize(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let bytes = if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            let (text, after) = rest.split_at(bytes);
            tokens.push(Token { text: text.to_owned(), line: index + 1, in_test: false });
            rest = after.trim_start();
        }
    }
    tokens
}

/// Marks what stands under `#[test]` or a `#[cfg(..)]` that names `test`.
fn mark_test_code(tokens: &mut [Token]) {
    let mut index = 0;
    while index + 2 < tokens.len() {
        let is_attribute = tokens[index].text == "#" && tokens[index + 1].text == "[";
        if !is_attribute {
            index += 1;
            continue;
        }
        let attribute_end = closing(tokens, index + 1);
        let names = |word: &str| tokens[index..attribute_end].iter().any(|t| t.text == word);
        let is_test = names("test") && !names("not") && !names("cfg_attr");
        let mut end = attribute_end;
        if is_test {
            let rest = &tokens[attribute_end..];
            let opens = rest.iter().position(|token| token.text == "{" || token.text == ";");
            let open = attribute_end + opens.unwrap_or(rest.len().saturating_sub(1));
            end = if tokens[open].text == "{" { closing(tokens, open) } else { open };
            tokens[index..=end].iter_mut().for_each(|token| token.in_test = true);
        }
        index = end.max(index + 1);
    }
}

fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "{" | "[" | "(" => depth += 1,
            "}" | "]" | ")" => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return index;
        }
    }
    tokens.len() - 1
}

// ---- the rules --------------------------------------------------------------------------------

fn check_sizes(source: &Source, faults: &mut Vec<String>) {
    let name = &source.name;
    let lines_count = source.text.lines().count();
    if lines_count > FILE_LINES_MAX {
        faults.push(format!("{name}: {lines_count} lines, at most {FILE_LINES_MAX}"));
    }
    for (index, line) in source.text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > LINE_COLUMNS_MAX {
            let line = index + 1;
            faults.push(format!("{name}:{line}: {columns} columns, at most {LINE_COLUMNS_MAX}"));
        }
    }
}

fn check_functions(source: &Source, faults: &mut Vec<String>) {
    for (index, token) in source.tokens.iter().enumerate() {
        let called = source.text_at(index + 1);
        if token.text != "fn" || !called.starts_with(is_word) {
            continue; // `fn(u8) -> u8` is a type, `fn $name` a macro's
        }
        let mut at = index + 2;
        while !["{", ";", ""].contains(&source.text_at(at)) {
            at = if ["(", "["].contains(&source.text_at(at)) { source.closing(at) } else { at };
            at += 1;
        }
        if source.text_at(at) != "{" {
            continue;
        }
        let lines_count = source.tokens[source.closing(at)].line + 1 - token.line;
        if lines_count > FUNCTION_LINES_MAX {
            let place = format!("{}:{}", source.name, token.line);
            faults.push(format!(
                "{place}: fn {called} is {lines_count} lines, at most {FUNCTION_LINES_MAX}"
            ));
        }
    }
}

fn check_module_doc(source: &Source, faults: &mut Vec<String>) {
    let first = source.text.lines().next().unwrap_or("");
    if first.strip_prefix("//!").is_none_or(|doc| doc.trim().is_empty()) {
        faults.push(format!("{}:1: must open with a //! module doc", source.name));
    }
}

fn check_imports(source: &Source, faults: &mut Vec<String>) {
    let module = source.module();
    let row = LAYERS.iter().find(|(layer, _)| *layer == module);
    if row.is_none() && source.name != TOUR_FILE {
        faults.push(format!("{}: {module} has no row in the layer table", source.name));
    }
    let allowed = row.map_or(&[][..], |(_, allowed)| *allowed);
    for path in paths_of(source) {
        let place = format!("{}:{}", source.name, path.line);
        if let Some(target) = path.module_of_ours() {
            let is_row = LAYERS.iter().any(|(layer, _)| *layer == target);
            let by_star = allowed.contains(&ALL_AND) && ALL.contains(&target);
            if is_row && target != module && !by_star && !allowed.contains(&target) {
                faults.push(format!("{place}: {module} may not import {target}"));
            }
        }
        let fence = FENCED_CRATES.iter().find(|(outside, _)| *outside == path.segments[0]);
        if let Some((outside, owners)) = fence
            && !owners.contains(&module)
        {
            faults.push(format!("{place}: only {} may name {outside}", owners.join(", ")));
        }
    }
}

/// A path as written, `use` groups expanded, with what is needed to resolve `super`.
struct NamedPath {
    segments: Vec<String>,
    line: usize,
    depth: usize, // of the module it stands in, below the crate's root
}

impl NamedPath {
    /// The top-level module of this crate that the path leads to, if it leads to one from outside.
    fn module_of_ours(&self) -> Option<&str> {
        let supers = self.segments.iter().take_while(|segment| *segment == "super").count();
        let root = match self.segments[0].as_str() {
            "crate" | "ringmain" => 1,
            "super" if supers == self.depth => supers,
            _ => return None,
        };
        self.segments.get(root).map(String::as_str)
    }
}

fn paths_of(source: &Source) -> Vec<NamedPath> {
    let mut paths = Vec::new();
    let mut inline_modules: Vec<usize> = Vec::new(); // where each open `mod name {` closes
    let mut index = 0;
    while index < source.tokens.len() {
        inline_modules.retain(|end| *end > index);
        let depth = source.module_depth() + inline_modules.len();
        if source.text_at(index) == "mod" && source.text_at(index + 2) == "{" {
            inline_modules.push(source.closing(index + 2));
        }
        let before = if index == 0 { "" } else { source.text_at(index - 1) };
        let is_use = source.text_at(index) == "use" && !source.reads(index + 1, &["<"]);
        let is_root = source.text_at(index).starts_with(is_word)
            && source.text_at(index + 1) == "::"
            && !(before == "::" && index >= 2 && source.text_at(index - 2).ends_with(is_word))
            && before != ".";
        if is_use || is_root {
            let start = index + usize::from(is_use);
            let mut found = Vec::new();
            index = expand(source, start, &[], &mut found);
            let lines = found.into_iter();
            paths.extend(lines.map(|(segments, line)| NamedPath { segments, line, depth }));
        } else {
            index += 1;
        }
    }
    paths
}

/// Reads one path or `use` tree from `index`; returns the index after it.
fn expand(
    source: &Source,
    mut index: usize,
    prefix: &[String],
    found: &mut Vec<(Vec<String>, usize)>,
) -> usize {
    let mut segments = prefix.to_vec();
    let line = source.tokens.get(index).map_or(0, |token| token.line);
    loop {
        let text = source.text_at(index);
        if text == "::" {
            index += 1;
        } else if text == "{" && source.text_at(index.wrapping_sub(1)) == "::" {
            let end = source.closing(index);
            index += 1;
            while index < end {
                let after = expand(source, index, &segments, found);
                index = after + usize::from(after < end); // the comma
            }
            return end + 1;
        } else if text.starts_with(is_word) && (source.text_at(index + 1) == "::") {
            segments.push(text.to_owned());
            index += 1;
        } else {
            let is_last = text.starts_with(is_word) || text == "*";
            if is_last {
                segments.push(text.to_owned());
                index += 1;
            }
            if source.text_at(index) == "as" {
                index += 2;
            }
            if !segments.is_empty() {
                found.push((segments, line));
            }
            return index.max(1);
        }
    }
}

fn check_unsafe(source: &Source, faults: &mut Vec<String>) {
    let name = &source.name;
    let folder = name.strip_prefix("src/").and_then(|rest| rest.split_once('/'));
    if folder.is_some_and(|(top, _)| top == UNSAFE_FOLDER) {
        return;
    }
    for token in source.tokens.iter().filter(|token| token.text == "unsafe") {
        faults.push(format!("{name}:{}: unsafe outside src/{UNSAFE_FOLDER}", token.line));
    }
    let is_top_module = folder.is_some_and(|(_, file)| file == "mod.rs");
    let forbid = ["#", "!", "[", "forbid", "(", "unsafe_code", ")", "]"];
    if is_top_module && !(0..source.tokens.len()).any(|index| source.reads(index, &forbid)) {
        faults.push(format!("{name}:1: must say #![forbid(unsafe_code)]"));
    }
}

fn check_unwrap(source: &Source, faults: &mut Vec<String>) {
    for (index, token) in source.tokens.iter().enumerate() {
        if !token.in_test && source.reads(index, &[".", "unwrap", "(", ")"]) {
            let place = format!("{}:{}", source.name, token.line);
            faults.push(format!("{place}: bare unwrap; say why in an expect, or return an error"));
        }
    }
}

fn check_unfinished(source: &Source, faults: &mut Vec<String>) {
    let name = &source.name;
    for (index, token) in source.tokens.iter().enumerate() {
        let is_macro = UNFINISHED_MACROS.contains(&token.text.as_str());
        if is_macro && source.reads(index + 1, &["!"]) && !source.reads(index + 2, &["="]) {
            faults.push(format!("{name}:{}: {}! is unfinished work", token.line, token.text));
        }
    }
    for (index, line) in source.comments.lines().enumerate() {
        if let Some(mark) = UNFINISHED_MARKS.iter().find(|mark| line.contains(**mark)) {
            faults.push(format!("{name}:{}: {mark} is unfinished work", index + 1));
        }
    }
}

/// The tour names each file of src in backticks, by its path below src: `io/ring.rs`, and a
/// folder's mod.rs by the folder: `io/`. It names no file that is not there.
fn check_tour(sources: &[Source], faults: &mut Vec<String>) {
    let Some(tour) = sources.iter().find(|source| source.name == TOUR_FILE) else {
        return;
    };
    let below_src = sources.iter().filter_map(|source| source.name.strip_prefix("src/"));
    let names: Vec<&str> = below_src
        .filter(|name| *name != "lib.rs")
        .map(|name| name.strip_suffix("mod.rs").unwrap_or(name))
        .collect();
    let mut missing = String::new();
    for name in names.iter().filter(|name| !tour.text.contains(&format!("`{name}`"))) {
        write!(missing, " `{name}`").expect("writing to a String cannot fail");
    }
    if !missing.is_empty() {
        faults.push(format!("{TOUR_FILE}: the tour does not name{missing}"));
    }
    for (index, line) in tour.text.lines().enumerate().filter(|(_, line)| line.starts_with("//!")) {
        for quoted in line.split('`').skip(1).step_by(2) {
            let is_path = quoted.ends_with(".rs") || quoted.ends_with('/');
            if is_path && !names.contains(&quoted) && !is_elsewhere(quoted) {
                faults.push(format!("{TOUR_FILE}:{}: there is no {quoted}", index + 1));
            }
        }
    }
}

/// True for what the tour may mention outside src.
fn is_elsewhere(quoted: &str) -> bool {
    ["bench/", "tests/", "scripts/", "src/"].iter().any(|top| quoted.starts_with(top))
}

// ---- the rules can fail -----------------------------------------------------------------------

#[test]
fn the_layer_table_is_acyclic() {
    for (row, (module, allowed)) in LAYERS.iter().enumerate() {
        for dependency in allowed.iter().filter(|dependency| **dependency != ALL_AND) {
            let is_above = LAYERS[..row].iter().any(|(name, _)| name == dependency);
            assert!(is_above, "{module} may only import rows above it, not {dependency}");
        }
    }
    let is_row = |module: &str| LAYERS.iter().any(|(name, _)| *name == module);
    assert!(ALL.iter().all(|module| is_row(module)), "ALL names only rows of the table");
}

fn faults_in(name: &str, text: &str) -> Vec<String> {
    faults_of(&[Source::new(name, &format!("//! Doc.\n{text}"))])
}

fn assert_one_fault(name: &str, text: &str, expected: &str) {
    assert_eq!(faults_in(name, text), [expected], "in\n{text}");
}

fn assert_clean(name: &str, text: &str) {
    assert_eq!(faults_in(name, text), [""; 0], "in\n{text}");
}

/// Goal: an import against the picture is seen in every form that Rust has for it.
#[test]
fn an_import_from_a_higher_layer_is_a_fault() {
    let name = "src/storage/log.rs";
    let fault = "src/storage/log.rs:2: storage may not import server";
    assert_one_fault(name, "use crate::server::dispatch;", fault);
    assert_one_fault(name, "pub(crate) use crate::server as s;", fault);
    assert_one_fault(name, "use crate::{base::{ids, limits}, server::{a, b as c}, io};", fault);
}

/// Goal: as above, for paths in code, `super`, macros, and `use` over several lines.
#[test]
fn other_ways_to_name_a_higher_layer_are_faults() {
    let fault = |line| format!("src/storage/log.rs:{line}: storage may not import server");
    let name = "src/storage/log.rs";
    assert_one_fault(name, "fn f() { g(crate::server::dispatch()) }", &fault(2));
    assert_one_fault(name, "use super::super::server;", &fault(2));
    assert_one_fault(name, "use super::super::{\n    base,\n    server::x,\n};", &fault(4));
    assert_one_fault(name, "mod m {\n    use super::super::super::server;\n}", &fault(3));
    assert_one_fault(name, "macro_rules! m { () => { $crate::server::x() } }", &fault(2));
    assert_clean(name, "mod server {}\nuse self::server::x;\nuse super::server::y;");
    assert_clean(name, "// use crate::server::x;\nconst S: &str = \"crate::server::x\";");
    assert_clean(name, "use crate::{base::ids::Offset, io::File, protocol};");
}

#[test]
fn nothing_imports_the_top_and_every_folder_has_a_row() {
    let fault = "src/server/quota.rs:2: server may not import config";
    assert_one_fault("src/server/quota.rs", "use crate::config::Settings;", fault);
    let fault = "src/node.rs:2: node may not import main";
    assert_one_fault("src/node.rs", "use crate::main::x;", fault);
    assert_clean("src/main.rs", "use ringmain::{config, node, server};");
    let fault = "bench/load.rs:2: bench may not import server";
    assert_one_fault("bench/load.rs", "use ringmain::server::x;", fault);
    let fault = "src/helpers/odd.rs: helpers has no row in the layer table";
    assert_one_fault("src/helpers/odd.rs", "", fault);
}

#[test]
fn a_fenced_crate_outside_its_module_is_a_fault() {
    let name = "src/storage/log.rs";
    let fault = "src/storage/log.rs:2: only io may name async_task";
    assert_one_fault(name, "use async_task::Runnable;", fault);
    assert_one_fault(name, "use async_task;", fault);
    assert_one_fault(name, "fn f() { ::async_task::spawn() }", fault);
    let fault = "src/storage/log.rs:2: only io may name io_uring";
    assert_one_fault(name, "use {io_uring::opcode, std::fmt};", fault);
    let fault = "src/cluster/controller.rs:2: only consensus may name raft";
    assert_one_fault("src/cluster/controller.rs", "use raft::RawNode;", fault);
    let fault = "src/protocol/wire.rs:2: only tests may name kafka_protocol";
    assert_one_fault("src/protocol/wire.rs", "use kafka_protocol::messages;", fault);
    assert_clean("src/io/ring.rs", "use async_task::Runnable;\nuse io_uring::opcode;");
    assert_clean("src/cluster/controller.rs", "use crate::consensus::raft::Group;");
}

#[test]
fn sizes_beyond_the_caps_are_faults() {
    let long = "//\n".repeat(FILE_LINES_MAX);
    assert_one_fault("src/base/ids.rs", &long, "src/base/ids.rs: 1001 lines, at most 1000");
    assert_clean("src/base/ids.rs", &long[3..]);
    let wide = format!("// {}", "ö".repeat(LINE_COLUMNS_MAX - 3));
    assert_clean("src/base/ids.rs", &wide);
    let fault = "src/base/ids.rs:2: 101 columns, at most 100";
    assert_one_fault("src/base/ids.rs", &format!("{wide}x"), fault);
    let body = "    g();\n".repeat(FUNCTION_LINES_MAX - 1);
    let fault = "src/base/ids.rs:2: fn f is 71 lines, at most 70";
    let function = format!("fn f(a: [u8; 4]) -> u8 {{\n{body}}}\nfn short() {{}}");
    assert_one_fault("src/base/ids.rs", &function, fault);
    assert_clean("src/base/ids.rs", &function.replacen("    g();\n", "", 1));
}

#[test]
fn a_file_without_module_doc_is_a_fault() {
    let fault = "src/base/ids.rs:1: must open with a //! module doc";
    assert_eq!(faults_of(&[Source::new("src/base/ids.rs", "pub struct Offset;\n")]), [fault]);
    assert_eq!(faults_of(&[Source::new("src/base/ids.rs", "//!\n")]), [fault]);
}

#[test]
fn unsafe_outside_io_and_a_folder_that_does_not_forbid_it_are_faults() {
    let fault = "src/storage/log.rs:2: unsafe outside src/io";
    assert_one_fault("src/storage/log.rs", "fn f() { unsafe { g() } }", fault);
    assert_clean("src/io/ring.rs", "fn f() { unsafe { g() } }");
    let fault = "src/storage/mod.rs:1: must say #![forbid(unsafe_code)]";
    assert_one_fault("src/storage/mod.rs", "pub mod log;", fault);
    assert_clean("src/storage/mod.rs", "#![forbid(unsafe_code)]\npub mod log;");
}

#[test]
fn a_bare_unwrap_outside_test_code_is_a_fault() {
    let name = "src/base/ids.rs";
    let fault = "src/base/ids.rs:3: bare unwrap; say why in an expect, or return an error";
    assert_one_fault(name, "fn f() {\n    x.unwrap();\n}", fault);
    assert_one_fault(name, "fn f() { x\n    .unwrap ( ) }", fault);
    assert_one_fault(name, "#[cfg(not(test))]\nfn f() { x.unwrap() }", fault);
    let tests = "#[cfg(test)]\nmod tests {\n    fn f() { x.unwrap() }\n}\n";
    assert_clean(name, tests);
    assert_clean(name, "#[test]\nfn f() { x.unwrap() }\n// x.unwrap()\n");
    let after = format!("{tests}fn g() {{ x.unwrap() }}");
    assert_one_fault(name, &after, &fault.replace(":3:", ":6:"));
    assert_clean("src/storage/tests.rs", "fn f() { x.unwrap() }");
    assert_clean("tests/kill.rs", "fn f() { x.unwrap() }");
    let child = Source::new("src/io/harness.rs", "//! Doc.\nfn f() { x.unwrap() }\n");
    let parent = |attribute: &str| {
        Source::new("src/io/mod.rs", &format!("//! Doc.\n{attribute}\nmod harness;\n"))
    };
    let fault = "src/io/harness.rs:2: bare unwrap; say why in an expect, or return an error";
    assert_eq!(faults_of(&[parent("#[cfg(test)]"), child.clone()]), [""; 0]);
    assert_eq!(faults_of(&[parent("#[cfg(unix)]"), child]), [fault]);
    assert_clean(name, "fn f() { x.unwrap_or(1) }\nconst S: &str = r#\"x.unwrap() \"#;");
}

#[test]
fn unfinished_work_is_a_fault() {
    let name = "src/base/ids.rs";
    for called in UNFINISHED_MACROS {
        let fault = format!("{name}:2: {called}! is unfinished work");
        assert_one_fault(name, &format!("fn f() {{ {called}!() }}"), &fault);
        assert_clean(name, &format!("fn f() {{ if {called} != 1 {{}} }}"));
    }
    for mark in UNFINISHED_MARKS {
        let fault = format!("{name}:2: {mark} is unfinished work");
        assert_one_fault(name, &format!("fn f() {{}} // {mark}: later"), &fault);
        assert_clean(name, &format!("const S: &str = \"{mark}\";"));
    }
}

#[test]
fn a_tour_that_misses_or_invents_a_file_is_a_fault() {
    let forbid = "//! Doc.\n#![forbid(unsafe_code)]\n";
    let files = |tour: &str| {
        vec![
            Source::new("src/base/ids.rs", "//! Doc.\n"),
            Source::new("src/base/mod.rs", forbid),
            Source::new(TOUR_FILE, tour),
            Source::new("src/main.rs", "//! Doc.\n"),
        ]
    };
    let fault = "src/lib.rs: the tour does not name `base/ids.rs` `base/`";
    assert_eq!(faults_of(&files("//! See `main.rs`, ids.rs.\n")), [fault]);
    assert_eq!(faults_of(&files("//! `base/` has `base/ids.rs`;\n//! `main.rs`\n")), [""; 0]);
    let invented = "//! `base/`, `base/ids.rs`, `main.rs`, `base/gone.rs`, `tests/`\n";
    assert_eq!(faults_of(&files(invented)), ["src/lib.rs:1: there is no base/gone.rs"]);
}

/// Goal: the reader is not fooled by what looks like a quote, a comment or a brace.
#[test]
fn quotes_comments_and_lifetimes_are_told_apart() {
    let text = "fn f<'a>(x: &'a str) { g('\"', '\\'', b'{', \"// \\\" {\", r#\"}\"\"#); } // '{'\n";
    let (code, comments) = split_code_and_comments(text);
    assert_eq!(code.trim_end(), "fn f<'a>(x: &'a str) { g(   ,     , b   ,          ,        ); }");
    assert_eq!(comments.trim(), "// '{'");
    let (code, _) = split_code_and_comments("a /* b\n/ */ c r#type d");
    assert_eq!(code, "a     \n     c r#type d");
}
