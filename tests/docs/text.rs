//! Reads Markdown and shell lines as far as the documentation uses them.

use std::collections::BTreeSet;

/// One document.
pub struct Doc {
    pub name: String,
    pub text: String,
}

/// One table.
pub struct Table {
    header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Doc {
    pub fn new(name: &str, text: String) -> Self {
        Doc { name: name.to_owned(), text }
    }

    /// Fenced blocks, each with its language.
    pub fn blocks(&self) -> impl Iterator<Item = (String, String)> {
        let fenced = self.text.split("\n```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
        fenced.map(|(language, block)| {
            (language.split(' ').next().unwrap_or_default().to_owned(), block.to_owned())
        })
    }

    /// The text between fenced blocks.
    fn prose(&self) -> String {
        self.text
            .split("\n```")
            .step_by(2)
            .map(|part| part.split_once('\n').map_or(part, |(_, rest)| rest))
            .fold(String::new(), |all, part| all + "\n" + part)
    }

    /// What stands between backticks.
    pub fn code_spans(&self) -> impl Iterator<Item = String> {
        let prose = self.prose();
        let spans: Vec<String> = prose
            .split("\n\n")
            .flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ")))
            .collect();
        spans.into_iter()
    }

    pub fn tables(&self) -> impl Iterator<Item = Table> {
        let mut tables = Vec::new();
        let mut lines = self.text.lines().peekable();
        while let Some(line) = lines.next() {
            if !line.starts_with('|') || !lines.peek().is_some_and(|next| next.starts_with("|---")) {
                continue;
            }
            lines.next();
            let mut rows = Vec::new();
            while let Some(row) = lines.next_if(|line| line.starts_with('|')) {
                rows.push(cells(row));
            }
            tables.push(Table { header: cells(line), rows });
        }
        tables.into_iter()
    }

    /// Where links lead, except to other sites.
    pub fn links(&self) -> Vec<String> {
        let prose = self.prose();
        let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        targets.filter(|target| !target.contains("://")).map(str::to_owned).collect()
    }

    /// What a link can point at in here.
    pub fn anchors(&self) -> BTreeSet<String> {
        let headings = self.text.lines().filter(|line| line.starts_with('#'));
        headings
            .map(|line| {
                let heading = line.trim_start_matches('#').trim().to_lowercase();
                let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
                kept.collect::<String>().replace(' ', "-")
            })
            .collect()
    }

    /// Every `--flag`.
    pub fn flags(&self) -> BTreeSet<String> {
        self.tokens(|c| c.is_ascii_lowercase() || c == '-', "--")
            .into_iter()
            .filter(|flag| flag.len() > 3 && !flag.starts_with("---") && !flag.ends_with('-'))
            .collect()
    }

    /// Every `RELAY_…` and `NATS_…`, except patterns such as `RELAY_*`.
    pub fn variables(&self) -> BTreeSet<String> {
        let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let mut all = self.tokens(is_part, "RELAY_");
        all.extend(self.tokens(is_part, "NATS_"));
        all.retain(|name| !name.ends_with('_'));
        all
    }

    /// Maximal runs of `part` that begin with `start`.
    fn tokens(&self, part: impl Fn(char) -> bool, start: &str) -> BTreeSet<String> {
        let runs = self.text.split(|c| !part(c));
        runs.filter(|run| run.starts_with(start)).map(str::to_owned).collect()
    }
}

impl Table {
    pub fn has(&self, columns: &[&str]) -> bool {
        columns.iter().all(|column| self.header.iter().any(|name| name == column))
    }

    pub fn cell(&self, row: &[String], column: &str) -> String {
        let at = self.header.iter().position(|name| name == column).unwrap();
        row.get(at).cloned().unwrap_or_default()
    }
}

fn cells(line: &str) -> Vec<String> {
    let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
    inner.split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// Command lines of relay in a block of a shell or a terminal, as words. `bin/up` is `relay up`.
pub fn commands(block: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for line in block.replace("\\\n", " ").lines() {
        let line = line.trim().trim_start_matches("$ ");
        for simple in simple_commands(line) {
            let mut line =
                words(&simple).into_iter().skip_while(|word| word.contains('=') && !word.starts_with('-'));
            match line.next().as_deref() {
                // What a program prints may begin with the name too; a sentence goes on with `is`.
                Some("relay") if !simple.starts_with("relay is ") => {}
                Some("bin/up") => {
                    found.push(["relay", "up"].into_iter().map(str::to_owned).chain(line).collect());
                    continue;
                }
                _ => {
                    // A command inside the quotes of another one.
                    found.extend(
                        words(&simple).into_iter().filter(|w| w.starts_with("relay ")).map(|w| words(&w)),
                    );
                    continue;
                }
            }
            found.push(["relay".to_owned()].into_iter().chain(line).collect());
        }
    }
    found.retain(|line: &Vec<String>| !line.iter().any(|word| word.contains('…')));
    found
}

/// The commands between `|`, `;`, `&` and parentheses, without redirections and comments.
fn simple_commands(line: &str) -> Vec<String> {
    let mut commands = vec![String::new()];
    let mut quote = None;
    let mut comment = false;
    for c in line.chars() {
        let last = commands.last_mut().expect("there is always one");
        match (c, quote) {
            _ if comment => {}
            ('\'' | '"', None) => {
                quote = Some(c);
                last.push(c);
            }
            (c, Some(open)) => {
                if c == open {
                    quote = None;
                }
                last.push(c);
            }
            ('|' | ';' | '&' | '(' | ')', None) => commands.push(String::new()),
            ('#', None) if last.is_empty() || last.ends_with(' ') => comment = true,
            (c, None) => last.push(c),
        }
    }
    commands.iter().map(|command| command.trim().to_owned()).filter(|command| !command.is_empty()).collect()
}

/// A command's words, quotes removed, up to a redirection.
pub fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in command.chars() {
        let last = words.last_mut().expect("there is always one");
        match (c, quote) {
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (' ', None) => words.push(String::new()),
            ('>' | '<', None) => {
                words.pop();
                break;
            }
            (c, _) => last.push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
