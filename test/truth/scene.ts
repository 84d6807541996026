/**
 * What a line of the table is. Everything that is expected (how the rotation ends, with which grade, whom it must name)
 * is stated before anything runs.
 */
import type { Estate, EstateOptions } from "./estate.ts";
import type { ExtraLook } from "./reality.ts";
import type { Build, Ended } from "./rotate.ts";

export type Grade = "REFUSED" | "SUPERSEDED" | "EXPIRED";

export interface Expected {
  /** `error`: the command did nothing and said so. `no word`: it was killed. */
  readonly result: "closed" | "held" | "put back" | "error" | "no word";
  readonly grade?: Grade;
  /** Addresses, paths or names that it must name; a replica that is not among them may not be accused. */
  readonly names?: readonly string[];
  /** What else must be in its words. */
  readonly words?: RegExp;
  /** `locked`, `manifest` …, of an error. */
  readonly code?: string;
  /** Somebody else finished it: not saying `closed` is right all the same. */
  readonly evenDone?: boolean;
}

/** One run of Gyre in a scene, and what is done before it. */
export interface Act {
  readonly title: string;
  readonly change?: () => Promise<void> | void;
  /** Default: `gyre rotate`, to its end. */
  readonly run?: (build: Build) => Promise<Ended>;
  /** What else the witness looks at, from this act on. */
  readonly looks?: readonly ExtraLook[];
  readonly expect: Expected;
}

export interface Scene {
  /** Of design.md, section 7. */
  readonly line: number;
  /** `5`, or `5 haproxy` where a line has several. */
  readonly name: string;
  /** The words of design.md. */
  readonly fault: string;
  /** How the fault is made here. */
  readonly how: string;
  readonly estate?: (faulty: boolean) => EstateOptions;
  /** The fault, then its repair. */
  readonly acts: (estate: Estate) => readonly Act[];
  /** The same estate without the fault. */
  readonly twin?: (estate: Estate) => readonly Act[];
  /** The grade of the twin; default REFUSED with mutual TLS, SUPERSEDED without. */
  readonly grade?: Grade;
  /** The fault can be seen by probes only: a build whose probes lie must be caught by it. */
  readonly probesOnly?: boolean;
}

export const gradeOf = (scene: Scene, estate: Estate): Grade =>
  scene.grade ?? (estate.mutual ? "REFUSED" : "SUPERSEDED");

export const closed = (grade: Grade): Expected => ({ result: "closed", grade });
export const held = (...names: string[]): Expected => ({ result: "held", names });
