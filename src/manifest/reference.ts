import type { z } from "zod";
import { documents } from "./schema.ts";
import { descriptionOf, type Field, fieldsOf } from "./schema-walk.ts";

type Def = {
  readonly type: string;
  readonly innerType?: z.ZodType;
  readonly in?: z.ZodType;
  readonly options?: readonly z.ZodType[];
  readonly element?: z.ZodType;
  readonly entries?: Record<string, string>;
  readonly values?: readonly unknown[];
};

/** Sections that stand in two places are told once. */
const TOLD_ELSEWHERE =
  /^(apiVersion|kind|metadata)|^spec\.crl\.(renew|deliver|prove|quiet|timing)[.[]|^spec\.trust\[\]\.(validate|reload)[.[]|\.windows\[\]\./;

/** The tables of docs/manifest.md: one row per field, from the schemas themselves. */
export function referenceText(): string {
  return Object.entries(documents)
    .map(([kind, schema]) => {
      const rows = fieldsOf(schema)
        .filter(({ path }) => !TOLD_ELSEWHERE.test(path))
        .map(row);
      return [`### ${kind}`, "", "| field | value | meaning |", "|---|---|---|", ...rows].join("\n");
    })
    .join("\n\n");
}

function row({ path, schema }: Field): string {
  const cell = (text: string) => text.replaceAll("|", "\\|");
  return `| \`${path}\`${schema.safeParse(undefined).success ? "" : " *"} | ${cell(valueWords(schema))} | ${cell(descriptionOf(schema) ?? "")} |`;
}

const FORM =
  /^an? (duration|share|time of day|date|octal mode|DNS name|URI|e-mail address|distinguished name|IP address)/;

function valueWords(schema: z.ZodType): string {
  const def = schema.def as unknown as Def;
  switch (def.type) {
    case "string": {
      const issue = schema.safeParse("\u0000").error?.issues[0];
      return (issue && FORM.exec(issue.message)?.[1]) ?? "text";
    }
    case "enum":
      return Object.values(def.entries ?? {}).join(" | ");
    case "literal":
      return (def.values ?? []).map(String).join(" | ");
    case "array":
      return `list of ${valueWords(def.element!)}`;
    case "object":
      return "mapping";
    case "union":
      return (def.options ?? []).map(valueWords).join(" or ");
    case "boolean":
      return "true | false";
    default: {
      const inner = def.innerType ?? def.in;
      return inner ? valueWords(inner) : def.type;
    }
  }
}

if (import.meta.main) process.stdout.write(`${referenceText()}\n`);
