import type { Instant } from "../../engine/model.ts";
import type { Whereabouts } from "../../runtime/api.ts";
import { wrap } from "../layout.ts";
import { bold, dim } from "../paint.ts";
import { relativeWords, short } from "../words.ts";

/** Who uses or holds a certificate, one block per certificate. */
export function whoLines(asked: string, found: readonly Whereabouts[], now: Instant, width: number): string[] {
  if (found.length === 0) {
    return wrap(
      `${asked}: not in any journal, target, replica or log of these manifests; to look at a place by itself: gyre scan HOST:PORT|FILE|DIRECTORY`,
      width,
      2,
    );
  }
  const lines: string[] = [];
  for (const fingerprint of [...new Set(found.map((place) => place.fingerprint))]) {
    const places = found.filter((place) => place.fingerprint === fingerprint);
    const named = places.find((place) => place.credential !== undefined);
    const owner =
      named === undefined
        ? ""
        : `  ${named.credential}${named.generation === undefined ? "" : ` g${named.generation}`}`;
    lines.push(`${bold(short(fingerprint))}${owner}`, ...wrap(`  ${dim(fingerprint)}`, width, 2));
    for (const place of places) {
      const when = place.at === undefined ? "" : ` (${relativeWords(place.at, now)})`;
      lines.push(
        ...wrap(
          `  ${(place.unasked === true ? "unclear" : place.how).padEnd(11)}${place.where}${place.detail === "" ? "" : `: ${place.detail}`}${when}`,
          width,
          13,
        ),
      );
    }
  }
  return lines;
}
