import { resolve } from "node:path";
import { GyreError } from "../../errors.ts";
import { type ExitCode, exits } from "../exit.ts";
import type { Session } from "../session.ts";

export interface ReceiveFlags {
  readonly listen: string;
  readonly certificate: string;
  readonly key: string;
  readonly clientCa?: string;
  readonly directory: string;
}

/** Receives audit events of API servers until it is told to end (SIGTERM, Ctrl-C); what was begun is finished first. */
export async function receive(session: Session, flags: ReceiveFlags): Promise<ExitCode> {
  const { console } = session;
  const path = (name: string) => resolve(session.cwd, name);
  const { startAuditReceiver } = await import("../../drivers/kubernetes/audit-receiver.ts");
  const ending = session.interrupted();
  const receiver = await startAuditReceiver({
    ...placeOf(flags.listen),
    ...{ certificate: path(flags.certificate), privateKey: path(flags.key), directory: path(flags.directory) },
    ...(flags.clientCa === undefined ? {} : { clientCa: path(flags.clientCa) }),
    onProblem: (problem) => console.complain([`not received: ${problem}`]),
  });
  const { address } = receiver;
  console.data({ address, directory: path(flags.directory) });
  if (!console.quiet)
    console.say([`receiving audit events at https://${address}/<API server>, into ${flags.directory}`]);
  if (!ending.aborted) await new Promise((ended) => ending.addEventListener("abort", ended, { once: true }));
  await receiver.drain();
  return exits.ok;
}

/** Unlike an address to dial, one to listen at may have port 0: any free one. */
function placeOf(listen: string): { host: string; port: number } {
  const [, v6, name, digits] = /^(?:\[([^\]]+)\]|([^\s:[\]/]+)):(\d{1,5})$/.exec(listen) ?? [];
  const [host, port] = [v6 ?? name, Number(digits)];
  if (host !== undefined && port < 65_536) return { host, port };
  throw new GyreError({
    code: "input",
    message: `--listen ${listen} is not HOST:PORT; nothing was begun`,
    next: "write an address of this host, such as 10.0.0.9:8443 or [::]:8443",
  });
}
