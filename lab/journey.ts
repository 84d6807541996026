/** What a journey is: a story on real peers, told step by step. Each file in journeys/ exports one as `journey`. */
import type { Workspace } from "./estate.ts";
import type { GoToolName } from "./go-tools.ts";

export interface Journey {
  /** One line for the list. */
  readonly summary: string;
  /** Programs to build besides the peers that are always there. */
  readonly needs?: readonly GoToolName[];
  run(context: JourneyContext): Promise<void>;
}

export interface JourneyContext {
  readonly workspace: Workspace;
  /** Does one step and prints how it ended and how long it took. */
  step<T>(title: string, body: () => Promise<T> | T): Promise<T>;
  /** Something worth showing between two steps. */
  say(text: string): void;
  /** Fails the journey unless `yes`. */
  expect(what: string, yes: boolean): void;
}
