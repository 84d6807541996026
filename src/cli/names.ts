import { GyreError } from "../errors.ts";
import { nearest } from "../manifest/nearest.ts";

/** The credential a person named, or code `manifest` with the nearest name there is. */
export function knownName(name: string, names: readonly string[]): string {
  if (names.includes(name)) return name;
  const near = nearest(name, names);
  const listed =
    names.length === 0
      ? "the manifests name no credential"
      : `there are: ${names.slice(0, 20).join(", ")}${names.length > 20 ? `, and ${names.length - 20} more` : ""}`;
  throw new GyreError({
    code: "manifest",
    message: `no credential is called ${JSON.stringify(name)}; nothing was done`,
    next: near === undefined ? listed : `did you mean ${near}?`,
  });
}
