/**
 * What a line of the table is. Everything that is expected (how the rotation ends, with which grade, whom it must name)
 * is stated before anything runs.
 */
import type { Estate, EstateOptions } from "./estate.ts";
import type { ExtraLook, Reality } from "./reality.ts";
import type { Build, Ended } from "./rotate.ts";

export type Grade = "REFUSED" | "DENIED" | "SUPERSEDED" | "EXPIRED";

/** What a scene is played in: servers and files (estate.ts), or a cluster (kubernetes/estate.ts). */
export interface World {
  /** Where Gyre is run. */
  readonly home: string;
  readonly credential: string;
  /** The best grade that can be reached in it. */
  readonly grade: Grade;
  /** Those whom Gyre might accuse: by this address, or by a path in this directory. */
  readonly members: readonly { readonly address: string; readonly dir: string }[];
  /** The outside witness. */
  look(extra: readonly ExtraLook[]): Promise<Reality>;
  /** What a lying build needs to know (liar.mjs). */
  lies(): Readonly<Record<string, unknown>>;
  /** Addresses and paths by what they are called, so that two runs read the same. */
  plainly(text: string): string;
  end(failed: boolean): Promise<void>;
}

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

/** A line of the table, apart from what it is played in. */
export interface Line {
  /** Of design.md, section 7. */
  readonly line: number;
  /** `5`, or `5 haproxy` where a line has several. */
  readonly name: string;
  /** The words of design.md. */
  readonly fault: string;
  /** How the fault is made here. */
  readonly how: string;
  /** The fault can be seen by probes only: a build whose probes lie must be caught by it. */
  readonly probesOnly?: boolean;
}

export interface Scene<W extends World = Estate, Options = EstateOptions> extends Line {
  readonly estate?: (faulty: boolean) => Options;
  /** The fault, then its repair. */
  readonly acts: (estate: W) => readonly Act[];
  /** The same estate without the fault. */
  readonly twin?: (estate: W) => readonly Act[];
  /** The grade of the twin; default the best that its estate can reach. */
  readonly grade?: Grade;
}

/** A line that knows what it is played in. */
export interface Play extends Line {
  /** Builds it anew, with the fault or as the twin. */
  set(faulty: boolean): Promise<{ readonly world: World; readonly acts: () => readonly Act[] }>;
}

/** Plays a scene in what `build` makes of its options. */
export function playedIn<W extends World, Options>(
  build: (name: string, options?: Options) => Promise<W>,
  scene: Scene<W, Options>,
): Play {
  const { line, name, fault, how, probesOnly = false } = scene;
  return {
    ...{ line, name, fault, how, probesOnly },
    async set(faulty) {
      const world = await build(name.replaceAll(" ", "-"), scene.estate?.(faulty));
      const twin = () => scene.twin?.(world) ?? [{ title: "twin", expect: closed(scene.grade ?? world.grade) }];
      return { world, acts: () => (faulty ? scene.acts(world) : twin()) };
    },
  };
}

export const closed = (grade: Grade): Expected => ({ result: "closed", grade });
export const held = (...names: string[]): Expected => ({ result: "held", names });
