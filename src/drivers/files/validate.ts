import { GyreError } from "../../errors.ts";

const PLACEHOLDER = /\{(certificate|privateKey|chain|combined|keystore|bundle|crl|truststore)\}/g;

/** Whether the command names staged files, and so runs before the switch. */
export const namesStagedFiles = (command: readonly string[]): boolean =>
  command.some((word) => word.search(PLACEHOLDER) !== -1);

/**
 * Puts paths in for `{certificate}` and the like.
 * @throws GyreError `manifest` for a placeholder whose file is not among the settings
 */
export function withStagedFiles(command: readonly string[], paths: ReadonlyMap<string, string>): string[] {
  return command.map((word) =>
    word.replaceAll(PLACEHOLDER, (_, name: string) => {
      const path = paths.get(name);
      if (path !== undefined) return path;
      throw new GyreError({
        code: "manifest",
        message: `validate command \`${command.join(" ")}\`: {${name}} stands for a file that is not configured here; nothing written`,
        next: `use one of ${[...paths.keys()].map((known) => `{${known}}`).join(", ")}`,
      });
    }),
  );
}

/** A validate command that takes longer than this is stuck. */
export const VALIDATE_TIMEOUT = 60_000;
