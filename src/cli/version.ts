import { readFileSync } from "node:fs";

/** `gyre 0.1.0`, from the package file, which lies two levels up in the sources and in the published package alike. */
export function versionLine(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return `gyre ${(JSON.parse(text) as { version: string }).version}`;
}
