import { jsonText } from "./json.ts";
import { cut, wrap } from "./layout.ts";
import { dim, printed, wantsColour } from "./paint.ts";

/** What a stream must offer; process.stdout does, and so does a test's. */
export interface Output {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

export interface ConsoleOptions {
  readonly out: Output;
  readonly err: Output;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly json: boolean;
  readonly colour: boolean;
  readonly quiet: boolean;
  readonly now: () => number;
}

/** Narrower than this nothing can be laid out; lines run over instead. */
const narrowest = 40;

const widthOf = ({ isTTY, columns = 0 }: Output): number =>
  isTTY !== true ? Number.POSITIVE_INFINITY : columns === 0 ? 80 : Math.max(narrowest, columns);

/** A spinner in ASCII: every terminal and every font has it. */
const turning = ["|", "/", "-", "\\"] as const;
const turnEvery = 150;

/** The one way anything reaches the terminal. Styles and control characters are dealt with here. */
export class Console {
  readonly json: boolean;
  readonly quiet: boolean;
  readonly now: () => number;
  readonly #options: ConsoleOptions;
  #live:
    | { timer: NodeJS.Timeout; draw: (mark: string) => string | undefined; turn: number; drawn: boolean }
    | undefined;

  constructor(options: ConsoleOptions) {
    this.#options = options;
    this.json = options.json;
    this.quiet = options.quiet;
    this.now = options.now;
  }

  /** Columns to lay text out in; Infinity in a pipe, where programs read whole lines. */
  get width(): number {
    return widthOf(this.#options.out);
  }

  /** For people; nothing with `--json`. */
  say(lines: readonly string[]): void {
    if (this.json || lines.length === 0) return;
    this.#print(lines);
  }

  /** The one object of `--json`; nothing without it. */
  data(value: unknown): void {
    if (this.json) this.raw(`${jsonText(value)}\n`);
  }

  /** Text that is not for the eye alone: JSON, a completion script, an evidence file. */
  raw(text: string): void {
    this.#erase();
    this.#options.out.write(text);
  }

  /** To standard error; errors and warnings. */
  complain(lines: readonly string[]): void {
    this.#erase();
    const { err, colour, env } = this.#options;
    const styled = colour && wantsColour(true, env, err.isTTY === true);
    const width = widthOf(err);
    // A line of a manifest and the carets under it belong together and are left as they are.
    const laidOut = lines.flatMap((line) => (/^ *\d* +\| /.test(line) ? [line] : wrap(line, width, 8)));
    err.write(laidOut.map((line) => `${printed(line, styled)}\n`).join(""));
  }

  /** Draws one line over and over below what was said, on a terminal only, until `stop` is called. */
  live(draw: (mark: string) => string | undefined): { stop: () => void } {
    if (this.json || this.quiet || this.#options.out.isTTY !== true || this.#options.env.TERM === "dumb")
      return { stop: () => {} };
    const timer = setInterval(() => this.#turn(), turnEvery);
    timer.unref();
    this.#live = { timer, draw, turn: 0, drawn: false };
    return {
      stop: () => {
        this.#erase();
        clearInterval(timer);
        this.#live = undefined;
      },
    };
  }

  #print(lines: readonly string[]): void {
    this.#erase();
    const { out, colour, env } = this.#options;
    const styled = colour && wantsColour(true, env, out.isTTY === true);
    out.write(lines.map((line) => `${printed(line, styled)}\n`).join(""));
    this.#draw();
  }

  #turn(): void {
    if (this.#live === undefined) return;
    this.#live.turn += 1;
    this.#draw();
  }

  #draw(): void {
    const live = this.#live;
    if (live === undefined) return;
    const line = live.draw(turning[live.turn % turning.length]!);
    if (line === undefined) {
      this.#erase();
      return;
    }
    // One column is left free: a full last column makes some terminals wrap, and then the line cannot be erased.
    const { out, colour, env } = this.#options;
    out.write(`\r${printed(dim(cut(line, this.width - 1)), colour && wantsColour(true, env, true))}\u001b[K`);
    live.drawn = true;
  }

  #erase(): void {
    if (this.#live?.drawn !== true) return;
    this.#options.out.write("\r\u001b[K");
    this.#live.drawn = false;
  }
}
