import { dim, widthOf } from "./paint.ts";

/**
 * Breaks text at spaces so that no line is wider than `width`; lines after the first start with `hang` spaces, so that
 * lines of what a command or a peer printed stand below what is said of it. In a pipe all of it stays one line.
 */
export function wrap(text: string, width: number, hang: number): string[] {
  if (!Number.isFinite(width)) return [text];
  const [first = "", ...more] = text.split(/\r?\n/);
  const below = more.filter((line) => line.trim() !== "").map((line) => " ".repeat(hang) + line);
  return [first, ...below].flatMap((line) => wrapLine(line, width, hang));
}

function wrapLine(text: string, width: number, hang: number): string[] {
  if (widthOf(text) <= width) return [text];
  const lead = /^ */.exec(text)![0];
  const lines: string[] = [];
  let line = "";
  let prefix = lead;
  for (const word of text.slice(lead.length).split(" ")) {
    const longer = line === "" ? prefix + word : `${line} ${word}`;
    if (line !== "" && widthOf(longer) > width) {
      lines.push(line.trimEnd());
      prefix = " ".repeat(hang);
      line = prefix + word;
    } else line = longer;
  }
  lines.push(line);
  return lines;
}

/** Cuts a line to `width` columns, for a line that is drawn over and must not wrap. Styles are dropped from it. */
export function cut(text: string, width: number): string {
  if (widthOf(text) <= width) return text;
  const characters = Array.from(text.replace(/[\ue000-\ue005]/g, ""));
  return `${characters.slice(0, Math.max(0, width - 3)).join("")}...`;
}

export interface Column {
  readonly title: string;
  /** Columns with the highest number go first when there is no room; 0 stays. */
  readonly spare: number;
  readonly right?: boolean;
  /** At most one: gets what is left, and is wrapped into it. */
  readonly wide?: boolean;
}

const gap = 2;

/** A table in at most `width` columns; what cannot be spared is wrapped (the wide column) or runs over. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[], width: number): string[] {
  const shown = fitting(columns, rows, width);
  const size = (index: number) => sizeOf(columns, rows, index);
  const left = shown
    .filter((index) => columns[index]?.wide !== true)
    .reduce((sum, index) => sum + size(index) + gap, 0);
  const room = Math.max(wideLeast, width - left);
  const line = (cells: readonly string[]): string[] => {
    const parts = shown.map((index) => {
      const column = columns[index]!;
      const cell = cells[index] ?? "";
      return column.wide === true ? wrap(cell, room, 0) : [pad(cell, size(index), column.right === true)];
    });
    const height = Math.max(...parts.map((part) => part.length));
    return Array.from({ length: height }, (_, row) =>
      parts
        .map((part, at) => part[row] ?? (columns[shown[at]!]!.wide === true ? "" : " ".repeat(size(shown[at]!))))
        .join(" ".repeat(gap))
        .trimEnd(),
    );
  };
  return [...line(columns.map((column) => column.title)).map(dim), ...rows.flatMap(line)];
}

/** The narrowest a wide column is squeezed to before another column goes. */
const wideLeast = 20;

const pad = (text: string, size: number, right: boolean): string => {
  const space = " ".repeat(Math.max(0, size - widthOf(text)));
  return right ? space + text : text + space;
};

const sizeOf = (columns: readonly Column[], rows: readonly (readonly string[])[], index: number): number =>
  Math.max(widthOf(columns[index]!.title), ...rows.map((row) => widthOf(row[index] ?? "")));

function fitting(columns: readonly Column[], rows: readonly (readonly string[])[], width: number): number[] {
  let shown = columns.map((_, index) => index);
  const needs = (indexes: readonly number[]): number =>
    indexes.reduce((sum, index) => {
      const full = sizeOf(columns, rows, index);
      return sum + gap + (columns[index]!.wide === true ? Math.min(full, wideLeast) : full);
    }, -gap);
  while (needs(shown) > width) {
    const most = Math.max(...shown.map((index) => columns[index]!.spare));
    if (most === 0) break;
    shown = shown.filter((index) => columns[index]!.spare !== most);
  }
  return shown;
}
