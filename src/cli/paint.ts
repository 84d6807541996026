/**
 * Styles as marks inside the text, turned into escape sequences (or into nothing) only when it is printed. So
 * renderings are pure and compared as plain text, widths are easily counted, and a control character in something
 * a peer, a file or a certificate said can never reach a terminal.
 *
 * Only the 16 colours of the terminal's own theme, and of these only such as read on a light and on a dark
 * background alike: green where it does not matter (ok), magenta and red in bold where it does.
 */
const styles = {
  bold: ["\ue001", "1"],
  dim: ["\ue002", "2"],
  good: ["\ue003", "32"],
  held: ["\ue004", "1;35"],
  bad: ["\ue005", "1;31"],
} as const;
const end = "\ue000";

const style =
  (name: keyof typeof styles) =>
  (text: string): string =>
    text === "" ? "" : `${styles[name][0]}${text}${end}`;

export const bold = style("bold");
export const dim = style("dim");
export const good = style("good");
export const held = style("held");
export const bad = style("bad");

const marks = /[\ue000-\ue005]/g;

/** Characters that move a cursor, ring, or turn writing around; a tab would break the columns. */
const unprintable = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;

const escaped = (character: string): string =>
  character === "\t" ? " " : character === "\n" ? "\\n" : `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;

/** How many columns it takes. */
export const widthOf = (text: string): number => Array.from(text.replace(marks, "")).length;

/** One printable line: with escape sequences, or as plain text. */
export function printed(line: string, colour: boolean): string {
  const safe = line.replace(unprintable, escaped).replaceAll("\u00a0", " ");
  if (!colour) return safe.replace(marks, "");
  return safe.replace(marks, (mark) => {
    const found = Object.values(styles).find(([own]) => own === mark);
    return `\u001b[${found === undefined ? "0" : found[1]}m`;
  });
}

/** The text without its styles. */
export const plainText = (lines: readonly string[]): string => lines.map((line) => printed(line, false)).join("\n");

/** `--no-color` first, then FORCE_COLOR over NO_COLOR as Node has it, then whether somebody looks. */
export function wantsColour(
  flag: boolean,
  env: Readonly<Record<string, string | undefined>>,
  terminal: boolean,
): boolean {
  if (!flag) return false;
  const force = env.FORCE_COLOR;
  if (force !== undefined) return force !== "0" && force !== "false";
  if ((env.NO_COLOR ?? "") !== "") return false;
  return terminal && env.TERM !== "dumb";
}
