import { position, type Source, type Span } from "./source.ts";

/** One thing wrong with a manifest, ready to print or to serialise. Holds no secret. */
export interface Problem {
  readonly file: string;
  /** One-based; absent where the file itself could not be read. */
  readonly line?: number;
  readonly column?: number;
  /** The field, such as `spec.issue.dnsNames[0]`; absent for syntax errors. */
  readonly field?: string;
  readonly message: string;
  /** What may stand there. */
  readonly allowed?: string;
  /** What the field is for, where it is missing. */
  readonly meaning?: string;
  readonly next?: string;
  /** The source line and a line of carets under the place, secrets masked. */
  readonly excerpt?: readonly [line: string, carets: string];
}

/** A problem before its line is cut out: the ranges to mask are known only when all of the file is understood. */
export interface RawProblem {
  readonly source: Source;
  readonly span: Span;
  readonly field?: string | undefined;
  readonly message: string;
  readonly allowed?: string | undefined;
  readonly meaning?: string | undefined;
  readonly next?: string | undefined;
}

const MASK = "[secret]";
/** Widest piece of a source line that is shown. */
const WIDTH = 110;

export function finish(raw: RawProblem): Problem {
  const at = position(raw.source, raw.span.from);
  return {
    file: raw.source.name,
    line: at.line,
    column: at.column,
    ...(raw.field === undefined || raw.field === "" ? {} : { field: raw.field }),
    message: printable(raw.message),
    ...(raw.allowed === undefined ? {} : { allowed: printable(raw.allowed) }),
    ...(raw.meaning === undefined ? {} : { meaning: raw.meaning }),
    ...(raw.next === undefined ? {} : { next: printable(raw.next) }),
    excerpt: excerpt(raw.source, raw.span, at.line),
  };
}

/** `file:line:column: message`, what is allowed, and the line with carets. */
export function problemText(problem: Problem): string {
  const where = problem.line === undefined ? problem.file : `${problem.file}:${problem.line}:${problem.column}`;
  const lines = [`${printable(where)}: ${problem.message}`];
  if (problem.excerpt !== undefined) {
    const number = String(problem.line).padStart(5);
    lines.push(`${number} | ${problem.excerpt[0]}`.trimEnd(), `${" ".repeat(number.length)} | ${problem.excerpt[1]}`);
  }
  if (problem.allowed !== undefined) lines.push(`      allowed: ${problem.allowed}`);
  if (problem.meaning !== undefined) lines.push(`      meaning: ${problem.meaning}`);
  if (problem.next !== undefined) lines.push(`      next: ${problem.next}`);
  return lines.join("\n");
}

/** Control and bidirectional characters of a hostile file must not reach a terminal. */
export function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]/g, (c) =>
    c === "\t" ? " " : `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function excerpt(source: Source, span: Span, line: number): [string, string] {
  const start = source.lineStarts[line - 1]!;
  const next = source.lineStarts[line] ?? source.text.length + 1;
  const end = source.text[next - 2] === "\r" ? next - 2 : next - 1;
  const to = Math.max(span.from + 1, Math.min(span.to, end));
  let text = "";
  let caretFrom = -1;
  let caretTo = -1;
  const masks = merged(source.secrets.filter((s) => s.from < end && s.to > start));
  for (let at = start; at <= end; ) {
    if (at >= span.from && caretFrom < 0) caretFrom = text.length;
    const mask = at < end ? masks.find((m) => m.from <= at && at < m.to) : undefined;
    if (mask) {
      if (caretFrom < 0 && span.from < mask.to && span.from >= at) caretFrom = text.length;
      text += MASK;
      at = Math.max(at + 1, Math.min(mask.to, end));
    } else {
      if (at < end) text += printable(source.text[at]!);
      at++;
    }
    if (caretTo < 0 && at >= to) caretTo = text.length;
  }
  return clip(text, Math.max(0, caretFrom), Math.max(caretFrom + 1, caretTo));
}

/** Sorted, and those that touch made one. */
function merged(spans: readonly Span[]): Span[] {
  const done: Span[] = [];
  for (const span of spans.toSorted((a, b) => a.from - b.from)) {
    const last = done.at(-1);
    if (last && span.from <= last.to) done[done.length - 1] = { from: last.from, to: Math.max(last.to, span.to) };
    else done.push(span);
  }
  return done;
}

function clip(text: string, from: number, to: number): [string, string] {
  const begin = from > WIDTH - 30 ? from - 40 : 0;
  const ahead = begin > 0 ? "…" : "";
  const behind = text.length > begin + WIDTH ? "…" : "";
  const shown = text.slice(begin, begin + WIDTH);
  const carets = Math.max(1, Math.min(to, begin + WIDTH) - from);
  return [`${ahead}${shown}${behind}`, `${" ".repeat(from - begin + ahead.length)}${"^".repeat(carets)}`];
}
