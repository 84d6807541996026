import { execFileSync } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { bashScript, fishScript, modelOf, zshScript } from "./completion.ts";
import { program } from "./program.ts";

const model = modelOf(program(async () => {}));
const folder = mkdtempSync(join(tmpdir(), "gyre-completion-"));
const scripts = { bash: bashScript(model), zsh: zshScript(model), fish: fishScript(model) };
for (const [shell, text] of Object.entries(scripts)) writeFileSync(join(folder, shell), text);
// Stands for gyre: what it is called with for names comes back as a name.
writeFileSync(join(folder, "gyre"), '#!/bin/sh\necho shop-tls\necho "called-with-$*" | tr " " "_"\n', { mode: 0o755 });

test("bash takes the script", () => execFileSync("bash", ["-n", join(folder, "bash")]));
test("zsh takes the script", () => execFileSync("zsh", ["-n", join(folder, "zsh")]));
test("fish takes the script", () => execFileSync("fish", ["--no-execute", join(folder, "fish")]));

/** What bash would offer after these words; the last one is being typed. */
function offered(...words: string[]): string[] {
  const list = words.map((word) => `'${word}'`).join(" ");
  const line = `source ${join(folder, "bash")}; COMP_WORDS=(${list}); COMP_CWORD=${words.length - 1}; _gyre 2>/dev/null; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return execFileSync("bash", ["-c", line], { encoding: "utf8" })
    .split("\n")
    .filter((word) => word !== "");
}

const gyre = join(folder, "gyre");

test("bash offers commands, options, names, choices and files", () => {
  expect(offered(gyre, "")).toEqual(expect.arrayContaining(["plan", "rotate", "run", "status", "verify"]));
  expect(offered(gyre, "")).not.toContain("__names");
  expect(offered(gyre, "ro")).toEqual(["rotate"]);
  expect(offered(gyre, "rotate", "--w")).toEqual(["--wait"]);
  expect(offered(gyre, "rotate", "--js")).toEqual(["--json"]);
  expect(offered(gyre, "rotate", "sh")).toEqual(["shop-tls"]);
  expect(offered(gyre, "-f", "x.yaml", "--json", "rotate", "called")).toEqual(["called-with--f_x.yaml___names"]);
  expect(offered(gyre, "completion", "f")).toEqual(["fish"]);
  expect(offered(gyre, "waive", "shop-tls", "m", "--claim", "pres")).toEqual(["presented", "presentedOld"]);
  expect(offered(gyre, "rotate", "--wait", "")).toEqual([]);
  expect(offered(gyre, "verify", `${folder}/ba`)).toEqual([`${folder}/bash`]);
});

test("fish offers commands, names and choices", () => {
  const ask = (line: string) =>
    execFileSync(
      "fish",
      ["--no-config", "-c", `set PATH ${folder} $PATH; source ${join(folder, "fish")}; complete -C '${line}'`],
      { encoding: "utf8" },
    )
      .split("\n")
      .map((offer) => offer.split("\t")[0]);
  expect(ask("gyre rot")).toContain("rotate");
  expect(ask("gyre -f x.yaml rotate sh")).toContain("shop-tls");
  expect(ask("gyre -f x.yaml rotate called")).toContain("called-with--f_x.yaml___names");
  expect(ask("gyre completion z")).toContain("zsh");
  expect(ask("gyre rotate --wa")).toContain("--wait");
});
