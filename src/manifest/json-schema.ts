import { z } from "zod";
import { documents } from "./schema.ts";

/** Where editors find it; also in the package. */
export const SCHEMA_ID = "https://gyre.dev/schema/v1alpha1.json";

/**
 * The JSON Schema (draft 2020-12) of a manifest document, made from the schemas that check it. It is a help for
 * editors: what one field says about another is checked only by Gyre itself.
 */
export function manifestJsonSchema(): object {
  const shared = z.object(documents);
  const { properties } = z.toJSONSchema(shared, {
    io: "input",
    target: "draft-2020-12",
    override: ({ jsonSchema }) => {
      // zod writes the safe-integer limits of JavaScript, which say nothing about the field.
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
    },
  }) as { properties: Record<string, object> };
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    $id: SCHEMA_ID,
    title: "Gyre manifest",
    description: "One document of a Gyre manifest: an Issuer, a Credential or a Cluster",
    oneOf: Object.keys(documents).map((kind) => ({ $ref: `#/$defs/${kind}` })),
    $defs: properties,
  };
}

/** As it is committed, ready to compare byte for byte. `node src/manifest/json-schema.ts > schema/gyre.schema.json` */
export function manifestJsonSchemaText(): string {
  return `${JSON.stringify(manifestJsonSchema(), null, 2)}\n`;
}

if (import.meta.main) process.stdout.write(manifestJsonSchemaText());
