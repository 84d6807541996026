import { Argument, Command, InvalidArgumentError, Option } from "commander";
import { claims } from "../engine/claims.ts";
import type { ScanFlags } from "./commands/scan.ts";
import type { ExitCode } from "./exit.ts";
import { parseLength } from "./lengths.ts";
import type { Session } from "./session.ts";
import { versionLine } from "./version.ts";

/** Starts the work of a command; main.ts makes the session from the global options and keeps the exit code. */
export type Perform = (work: (session: Session) => Promise<ExitCode>) => Promise<void>;

/**
 * The whole command line as one tree: help and completions are made from it. Each action loads its own code, so that
 * `--help` starts without YAML, zod, time zones and TLS.
 */
export function program(perform: Perform): Command {
  const root = new Command("gyre")
    .description("Rotates certificates and credentials, and proves that each rotation took effect.")
    .usage("[options] COMMAND")
    .option(
      "-f, --file <DIR|FILE>",
      "manifests; may be repeated (default: ./gyre.yaml and ./gyre/)",
      (path: string, before: string[] | undefined) => [...(before ?? []), path],
    )
    .option(
      "--state <DIR>",
      "journals, evidence, secrets, receipts (default: $GYRE_STATE, or .gyre beside the manifests)",
    )
    .option("--json", "print JSON instead of text: one object, or (scan) one on each line")
    .option("--no-color", "no colours, as with NO_COLOR=1; FORCE_COLOR=1 forces them")
    .option("-q, --quiet", "print only what needs attention")
    .helpOption("-h, --help", "explain a command, with examples")
    .helpCommand(false)
    .addHelpText(
      "after",
      `\n${exitHelp}\n\n${examples(["gyre plan shop-tls", "gyre rotate shop-tls", "gyre run -f /etc/gyre"])}`,
    );
  root.version(versionLine(), "-V, --version", "print the version");
  root.configureHelp({ showGlobalOptions: true });
  rotating(root, perform);
  looking(root, perform);
  deciding(root, perform);
  proving(root, perform);
  recording(root, perform);
  shell(root, perform);
  return root;
}

const exitHelp = `Exit codes:
  0  closed with proof; nothing due; run: waiting until the time it prints
  1  a question could not be answered; verify: not VERIFIED
  2  wrong use: arguments, manifest, unknown name, not allowed
  3  held; doctor, scan: something was found
  4  failed, and put back or never begun
  5  waiting, interrupted, or another runner is at it
  6  failed and not put back`;

const examples = (lines: readonly string[]): string => `Examples:\n${lines.map((line) => `  $ ${line}`).join("\n")}`;

/** One line each in the list of commands; the whole story is in the command's own help. */
const summaries: Readonly<Record<string, string>> = {
  plan: "what a rotation would do; writes nothing",
  rotate: "rotate one when it is due, or go on",
  run: "rotate all that is due",
  revert: "put the old generation back",
  status: "all credentials at a glance",
  show: "the whole history of one",
  doctor: "a manifest against reality, read-only",
  who: "who holds or uses a certificate",
  scan: "certificates at addresses, in files, clusters",
  waive: "accept one unproven member, by name",
  approve: "approve what cannot be taken back",
  verify: "judge a receipt, without a network",
  audit: "receive what API servers record",
  completion: "completions for bash, zsh, fish",
};

/** A command with its group and examples. */
function command(root: Command, group: string, name: string, description: string, lines: readonly string[]): Command {
  const made = root.command(name).description(description).helpGroup(group);
  return made.summary(summaries[name] ?? "").addHelpText("after", `\n${examples(lines)}`);
}

const length = (text: string): number => {
  const value = parseLength(text);
  if (value === undefined) throw new InvalidArgumentError("a length of time is written 30s, 15m, 24h, 7d or 1h30m.");
  return value;
};

const wholeDays = (text: string): number => {
  if (!/^\d{1,5}$/.test(text)) throw new InvalidArgumentError("a number of days is written 30.");
  return Number(text);
};

const nameArgument = (): Argument => new Argument("<NAME>", "credential of the manifests");

/** One question to a member; may be repeated. */
function claimOption(): Option {
  const names = Object.keys(claims);
  const option = new Option(
    "--claim <CLAIM>",
    "what stays unproven, may be repeated (default: the one claim that is open)",
  );
  return option.choices(names).argParser((name: string, before: string[] | undefined) => {
    if (!names.includes(name)) throw new InvalidArgumentError(`Allowed choices are ${names.join(", ")}.`);
    return [...(before ?? []), name];
  });
}

const waitOption = (summary: string): Option =>
  new Option("--wait <LENGTH>", summary).argParser(length).default(60_000, "1m");

function rotating(root: Command, perform: Perform): void {
  const group = "Rotate:";
  command(root, group, "plan", "Say what a rotation would do, and which grade it can reach. Writes nothing.", [
    "gyre plan shop-tls",
    "gyre plan shop-tls --now",
    "gyre plan shop-tls --json | jq .plan.grade",
  ])
    .addArgument(nameArgument())
    .option("--now", "plan although it is not due")
    .action((name: string, flags: { now?: boolean }) =>
      perform(async (session) => (await import("./commands/ask.ts")).plan(session, name, flags)),
    );
  command(root, group, "rotate", "Rotate one credential when it is due, or go on with its rotation under way.", [
    "gyre rotate shop-tls",
    "gyre rotate shop-tls --now --reason 'key may have leaked'",
    "gyre rotate shop-tls --wait 20m",
  ])
    .addArgument(nameArgument())
    .option("--now", "rotate although it is not due")
    .addOption(waitOption("wait this long in the command, longer waits end it with 5"))
    .option("--reason <TEXT>", "why, for the journal and the receipt")
    .action((name: string, flags: { now?: boolean; wait: number; reason?: string }) =>
      perform(async (session) => (await import("./commands/act.ts")).rotate(session, name, flags)),
    );
  command(root, group, "run", "Rotate all that is due, one after the other, and go on with what is under way.", [
    "gyre run -f /etc/gyre",
    "gyre run -q -f /etc/gyre   # from a timer, every 15 to 30 minutes",
  ])
    .addOption(waitOption("wait this long for one credential before the next has its turn"))
    .option("--reason <TEXT>", "why, for the journals and the receipts")
    .action((flags: { wait: number; reason?: string }) =>
      perform(async (session) => (await import("./commands/act.ts")).run(session, flags)),
    );
  command(root, group, "revert", "Put the old generation back, while that is possible.", [
    "gyre revert shop-tls --reason 'clients pin the old key'",
    "gyre revert shop-tls --reason 'ticket 4711' --wait 10m",
  ])
    .addArgument(nameArgument())
    .requiredOption("--reason <TEXT>", "why, for the journal and the receipt")
    .option("--by <WHO>", "who wants it (default: user@host)")
    .addOption(waitOption("wait this long in the command"))
    .action((name: string, flags: { reason: string; by?: string; wait: number }) =>
      perform(async (session) => (await import("./commands/act.ts")).revert(session, name, flags)),
    );
}

function looking(root: Command, perform: Perform): void {
  const group = "Look:";
  command(root, group, "status", "Show all credentials: generation, time left, what is due, what is held.", [
    "gyre status",
    "gyre status shop-tls --json",
  ])
    .addArgument(new Argument("[NAME...]", "only these"))
    .action((names: string[]) =>
      perform(async (session) => (await import("./commands/ask.ts")).status(session, names)),
    );
  command(root, group, "show", "Show the whole history of one credential.", [
    "gyre show shop-tls",
    "gyre show shop-tls --evidence 3f9a2c1b",
  ])
    .addArgument(nameArgument())
    .option("--evidence <DIGEST>", "print this evidence file; a beginning of 8 hex digits will do")
    .action((name: string, flags: { evidence?: string }) =>
      perform(async (session) => (await import("./commands/ask.ts")).show(session, name, flags)),
    );
  command(root, group, "doctor", "Compare a manifest with reality before anything is changed. Exits 3 on a problem.", [
    "gyre doctor shop-tls",
    "gyre doctor all -q",
  ])
    .addArgument(new Argument("[NAME|all]", "credential of the manifests").default("all"))
    .action((name: string) => perform(async (session) => (await import("./commands/ask.ts")).doctor(session, name)));
  command(root, group, "who", "Say who holds or uses a certificate, by its SHA-256 fingerprint.", [
    "gyre who 7f3a91c0",
    "gyre who $(openssl x509 -in shop.pem -noout -fingerprint -sha256 | cut -d= -f2)",
  ])
    .addArgument(new Argument("<FINGERPRINT>", "8 to 64 hex digits, colons allowed"))
    .action((fingerprint: string) =>
      perform(async (session) => (await import("./commands/ask.ts")).who(session, fingerprint)),
    );
  command(
    root,
    group,
    "scan",
    "Look for certificates at addresses, in files and in a cluster; needs no manifest. Exits 3 when --days finds some, or anything has an error.",
    [
      "gyre scan shop.example:443 /etc/nginx/tls",
      "gyre scan /etc/ssl --days 30",
      "gyre scan ~/.kube/config --json",
      "gyre scan --kubernetes --context prod --days 30",
      "gyre scan --kubernetes --print-rbac | kubectl apply -f -",
    ],
  )
    .addArgument(new Argument("[TARGET...]", "host:port, file, directory or kubeconfig"))
    .addOption(
      new Option("--days <N>", "only what expires within N days; exits 3 when there is any").argParser(wholeDays),
    )
    .addOption(new Option("--server-name <NAME>", "SNI for addresses (default: the host)"))
    .option("--kubernetes", "everything in a cluster that holds certificates; only lists, changes nothing")
    .option("--kubeconfig <FILE>", "how to get into it (default: $KUBECONFIG, ~/.kube/config, the pod's own)")
    .option("--context <NAME>", "which context of it (default: the current one)")
    .option(
      "--namespace <NS>",
      "only this namespace; may be repeated",
      (name: string, before: string[] | undefined) => [...(before ?? []), name],
    )
    .option("--print-rbac", "print the rights that --kubernetes needs, and do nothing else")
    .action((targets: string[], flags: ScanFlags) =>
      perform(async (session) => (await import("./commands/scan.ts")).scan(session, targets, flags)),
    );
}

function deciding(root: Command, perform: Perform): void {
  const group = "Decide:";
  command(
    root,
    group,
    "waive",
    "Accept, by name, that one member stays unproven. It stands on the receipt, and can be taken back.",
    [
      "gyre waive shop-tls 10.0.0.3:443 --claim presented --reason 'being rebuilt, ticket 4711'",
      "gyre waive shop-tls 10.0.0.3:443 --expires 2d --reason 'in maintenance'   # the one claim that is open",
      "gyre waive shop-tls 10.0.0.3:443 --withdraw --reason 'it is back'",
    ],
  )
    .addArgument(nameArgument())
    .addArgument(new Argument("<MEMBER>", "replica, target or verifier, as the hold names it"))
    .requiredOption("--reason <TEXT>", "why it is acceptable, or no longer is")
    .option("--by <WHO>", "who accepts it, or takes it back (default: user@host)")
    .addOption(new Option("--expires <LENGTH>", "how long it counts").argParser(length).default(7 * 86_400_000, "7d"))
    .addOption(claimOption())
    .option("--withdraw", "take waivers of the member back: all in force, or those for --claim")
    .action((name: string, member: string, flags) =>
      perform(async (session) => (await import("./commands/decide.ts")).waive(session, name, member, flags)),
    );
  command(root, group, "approve", "Approve the step of a rotation that cannot be taken back.", [
    "gyre approve shop-tls",
    "gyre approve shop-tls --by anna@example.org",
  ])
    .addArgument(nameArgument())
    .option("--by <WHO>", "who approves (default: user@host)")
    .action((name: string, flags: { by?: string }) =>
      perform(async (session) => (await import("./commands/decide.ts")).approve(session, name, flags)),
    );
}

function proving(root: Command, perform: Perform): void {
  command(root, "Prove:", "verify", "Judge a receipt; needs no manifest and no network. Exits 0 for VERIFIED alone.", [
    "gyre verify 17.json --key sha256:9b1c…",
    "gyre verify .gyre/receipts/17.json --key gyre.pub --log .gyre --checkpoint from-git",
    "gyre verify .gyre/receipts/17.json --key gyre.pub --evidence .gyre/evidence",
  ])
    .addArgument(new Argument("<FILE>", "the receipt"))
    .option(
      "--key <PIN>",
      "key that must have signed it: SHA-256 of its SPKI, or a PEM file; without it nothing is VERIFIED",
    )
    .option("--journal <FILE>", "compare it with this journal")
    .option("--log <DIR>", "the receipt log it should be in")
    .option("--checkpoint <FILE>", "a checkpoint kept elsewhere: shows a cut-off tail of the log")
    .option("--evidence <DIR>", "the evidence it rests on")
    .action((file: string, flags) =>
      perform(async (session) => (await import("./commands/verify.ts")).verify(session, file, flags)),
    );
}

function recording(root: Command, perform: Perform): void {
  command(
    root,
    "Prove:",
    "audit",
    "Receive the audit events that API servers post, into files that an auditLog entry reads. Ends on SIGTERM.",
    [
      "gyre audit receive --listen 10.0.0.9:8443 --certificate tls.crt --key tls.key --directory /var/log/gyre-audit",
      "gyre audit receive --listen [::]:8443 --certificate tls.crt --key tls.key --client-ca ca.crt --directory audit",
    ],
  )
    .addArgument(new Argument("<ACTION>", "what to do").choices(["receive"]))
    .requiredOption("--listen <HOST:PORT>", "address to listen at")
    .requiredOption("--certificate <FILE>", "PEM chain it presents; read anew when it changes")
    .requiredOption("--key <FILE>", "its private key, PEM")
    .option("--client-ca <FILE>", "demand client certificates of these CAs")
    .requiredOption("--directory <DIR>", "where NAME.jsonl go, one for each API server")
    .action((_: string, flags) =>
      perform(async (session) => (await import("./commands/audit.ts")).receive(session, flags)),
    );
}

function shell(root: Command, perform: Perform): void {
  command(root, "Shell:", "completion", "Print a completion script.", [
    "source <(gyre completion bash)",
    "gyre completion zsh > ~/.zfunc/_gyre",
    "gyre completion fish > ~/.config/fish/completions/gyre.fish",
  ])
    .addArgument(new Argument("<SHELL>", "which shell").choices(["bash", "zsh", "fish"]))
    .action((name: string) =>
      perform(async (session) => (await import("./commands/completion.ts")).completion(session, name, root)),
    );
  root
    .command("__names", { hidden: true })
    .description("The names of all credentials, for completions.")
    .action(() => perform(async (session) => (await import("./commands/completion.ts")).names(session)));
}
