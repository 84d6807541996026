import type { Command } from "commander";
import { bashScript, fishScript, modelOf, zshScript } from "../completion.ts";
import { type ExitCode, exits } from "../exit.ts";
import type { Session } from "../session.ts";

const scripts = { bash: bashScript, zsh: zshScript, fish: fishScript } as const;

/** Prints the script of one shell, made from the command tree. */
export async function completion(session: Session, shell: string, root: Command): Promise<ExitCode> {
  const script = scripts[shell as keyof typeof scripts](modelOf(root));
  session.console.raw(script);
  return exits.ok;
}

/** One name a line; nothing, and no complaint, where the manifests cannot be read: somebody is pressing Tab. */
export async function names(session: Session): Promise<ExitCode> {
  try {
    const { loadManifests } = await import("../../manifest/load.ts");
    const { credentials } = await loadManifests(session.manifestPaths(), session.env);
    session.console.raw(credentials.map(({ name }) => `${name}\n`).join(""));
  } catch {
    return exits.usage;
  }
  return exits.ok;
}
