import { describe, expect, test } from "vitest";
import { DAY, type Freeze, HOUR, type MaintenanceWindow, MINUTE } from "./renew-policy.ts";
import { lastOpen, longestClosed, nextOpen, openSpans, readRules } from "./windows.ts";

const at = (text: string) => Date.parse(text);

/** The open stretches of a UTC day and its neighbours' edges, as `start/end` in UTC. */
function spans(window: MaintenanceWindow, from: string, until: string): string[] {
  const { rules, problems } = readRules({ windows: [window] });
  expect(problems).toEqual([]);
  const say = (instant: number) => new Date(instant).toISOString().slice(0, 16);
  return openSpans(rules, at(from), at(until)).map(({ start, end }) => `${say(start)}/${say(end)}`);
}

describe("nights when clocks change", () => {
  const rows: [string, MaintenanceWindow, string, string, string[]][] = [
    [
      "Berlin in spring: 02:00-04:00 is one hour long, 03:00 exists as its start",
      { days: ["sun"], from: "02:00", to: "04:00", zone: "Europe/Berlin" },
      "2026-03-28T00:00Z",
      "2026-03-30T00:00Z",
      ["2026-03-29T01:00/2026-03-29T02:00"],
    ],
    [
      "Berlin in autumn: 02:00-04:00 is three hours long",
      { days: ["sun"], from: "02:00", to: "04:00", zone: "Europe/Berlin" },
      "2026-10-24T00:00Z",
      "2026-10-26T00:00Z",
      ["2026-10-25T00:00/2026-10-25T03:00"],
    ],
    [
      "Berlin in spring: a window inside the skipped hour does not exist that day, but the next",
      { from: "02:15", to: "02:45", zone: "Europe/Berlin" },
      "2026-03-29T00:00Z",
      "2026-03-31T00:00Z",
      ["2026-03-30T00:15/2026-03-30T00:45"],
    ],
    [
      "Berlin in autumn: a window inside the repeated hour comes twice",
      { days: ["sun"], from: "02:15", to: "02:45", zone: "Europe/Berlin" },
      "2026-10-24T00:00Z",
      "2026-10-26T00:00Z",
      ["2026-10-25T00:15/2026-10-25T00:45", "2026-10-25T01:15/2026-10-25T01:45"],
    ],
    [
      "New York in spring: the hour after 02:00 is skipped",
      { days: ["sun"], from: "01:30", to: "03:30", zone: "America/New_York" },
      "2026-03-08T00:00Z",
      "2026-03-09T00:00Z",
      ["2026-03-08T06:30/2026-03-08T07:30"],
    ],
    [
      "Lord Howe in spring: half an hour is skipped",
      { days: ["sun"], from: "01:00", to: "03:00", zone: "Australia/Lord_Howe" },
      "2026-10-03T00:00Z",
      "2026-10-05T00:00Z",
      ["2026-10-03T14:30/2026-10-03T16:00"],
    ],
    [
      "Lord Howe in autumn: half an hour is repeated",
      { days: ["sun"], from: "01:00", to: "03:00", zone: "Australia/Lord_Howe" },
      "2026-04-04T00:00Z",
      "2026-04-06T00:00Z",
      ["2026-04-04T14:00/2026-04-04T16:30"],
    ],
    [
      "Apia skipped Friday 2011-12-30 whole",
      { days: ["fri"], from: "02:00", to: "04:00", zone: "Pacific/Apia" },
      "2011-12-24T00:00Z",
      "2012-01-07T00:00Z",
      ["2012-01-05T12:00/2012-01-05T14:00"],
    ],
    [
      "Kathmandu lies 5:45 from UTC all year",
      { days: ["sun"], from: "02:00", to: "04:00", zone: "Asia/Kathmandu" },
      "2026-03-28T00:00Z",
      "2026-03-30T00:00Z",
      ["2026-03-28T20:15/2026-03-28T22:15"],
    ],
    [
      "Casablanca changes for a month of fasting: 2026-02-15 to 2026-03-22",
      { days: ["wed"], from: "02:00", to: "04:00", zone: "Africa/Casablanca" },
      "2026-02-11T00:00Z",
      "2026-02-19T00:00Z",
      ["2026-02-11T01:00/2026-02-11T03:00", "2026-02-18T02:00/2026-02-18T04:00"],
    ],
  ];
  test.each(rows)("%s", (_, window, from, until, expected) => {
    expect(spans(window, from, until)).toEqual(expected);
  });
});

describe("windows", () => {
  test("past midnight, the day is the one on which it starts", () => {
    const window: MaintenanceWindow = { days: ["sat"], from: "22:00", to: "02:00", zone: "UTC" };
    expect(spans(window, "2026-03-26T00:00Z", "2026-03-30T00:00Z")).toEqual(["2026-03-28T22:00/2026-03-29T02:00"]);
    expect(spans(window, "2026-03-29T01:00Z", "2026-03-30T00:00Z")).toEqual(["2026-03-29T01:00/2026-03-29T02:00"]);
  });

  test("windows that touch or overlap are one stretch, found whole from any point of it", () => {
    const windows: MaintenanceWindow[] = [
      { days: ["sat"], from: "00:00", to: "24:00", zone: "UTC" },
      { days: ["sun"], from: "00:00", to: "12:00", zone: "UTC" },
    ];
    const { rules } = readRules({ windows });
    expect(nextOpen(rules, at("2026-03-26T00:00Z"), at("2027-01-01T00:00Z"))).toEqual({
      start: at("2026-03-28T00:00Z"),
      end: at("2026-03-29T12:00Z"),
    });
    expect(longestClosed(rules)).toBe(5 * DAY + 12 * HOUR);
  });

  test("all days open end where the search ends, also behind many doublings", () => {
    const { rules } = readRules({ windows: [{ from: "00:00", to: "24:00", zone: "Europe/Berlin" }] });
    const from = at("2026-01-01T00:00Z");
    expect(nextOpen(rules, from, from + 1000 * DAY)).toEqual({ start: from, end: from + 1000 * DAY });
    expect(longestClosed(rules)).toBe(0);
  });

  test("a freeze of years is skipped to the first window behind it; the last window before it is found too", () => {
    const windows: MaintenanceWindow[] = [{ days: ["sun"], from: "02:00", to: "04:00", zone: "UTC" }];
    const freezes: Freeze[] = [{ from: "2026-04-01", to: "2034-12-31", zone: "UTC" }];
    const { rules } = readRules({ windows, freezes });
    const [from, until] = [at("2026-03-30T00:00Z"), at("2036-01-01T00:00Z")];
    expect(nextOpen(rules, from, until)?.start).toBe(at("2035-01-07T02:00Z"));
    expect(nextOpen(rules, from, at("2034-12-31T00:00Z"))).toBeUndefined();
    expect(lastOpen(rules, at("2026-03-01T00:00Z"), at("2034-01-01T00:00Z"))?.end).toBe(at("2026-03-29T04:00Z"));
  });
});

describe("freezes", () => {
  const edges = (freeze: Freeze) => readRules({ freezes: [freeze] }).rules.freezes[0];
  const rows: [string, Freeze, string, string][] = [
    [
      "dates are whole days of the zone, both included",
      { from: "2026-12-20", to: "2027-01-02", zone: "Europe/Berlin" },
      "2026-12-19T23:00Z",
      "2027-01-02T23:00Z",
    ],
    [
      "date-times are local, the end excluded",
      { from: "2026-12-20T18:00", to: "2026-12-21T06:30", zone: "America/New_York" },
      "2026-12-20T23:00Z",
      "2026-12-21T11:30Z",
    ],
    [
      "date-times with an offset are taken as they are",
      { from: "2026-12-20T18:00Z", to: "2026-12-21T06:00+02:00", zone: "America/New_York" },
      "2026-12-20T18:00Z",
      "2026-12-21T04:00Z",
    ],
    [
      "edges in the repeated hour make it longer",
      { from: "2026-10-25T02:30", to: "2026-10-25T02:45", zone: "Europe/Berlin" },
      "2026-10-25T00:30Z",
      "2026-10-25T01:45Z",
    ],
  ];
  test.each(rows)("%s", (_, freeze, start, end) => {
    expect(edges(freeze)).toEqual({ start: at(start), end: at(end) });
  });

  test("a day the zone skipped freezes nothing and is no mistake; two equal times are one", () => {
    const skipped = readRules({ freezes: [{ from: "2011-12-30", to: "2011-12-30", zone: "Pacific/Apia" }] });
    expect(skipped).toEqual({ rules: { windows: [], freezes: [] }, problems: [] });
    const around = { from: "2011-12-29", to: "2011-12-31", zone: "Pacific/Apia" };
    expect(edges(around)).toEqual({ start: at("2011-12-29T10:00Z"), end: at("2011-12-31T10:00Z") });
    const equal = readRules({ freezes: [{ from: "2026-12-20T18:00", to: "2026-12-20T18:00", zone: "UTC" }] });
    expect(equal.problems).toHaveLength(1);
  });
});

describe("what cannot be read is named", () => {
  const good: MaintenanceWindow = { days: ["sun"], from: "02:00", to: "04:00", zone: "UTC" };
  const rows: [string, Partial<Record<keyof MaintenanceWindow, unknown>>, string][] = [
    ["hour 25", { from: "25:00" }, "windows[0].from"],
    ["a start at 24:00", { from: "24:00" }, "windows[0].from"],
    ["minute 60", { to: "02:60" }, "windows[0].to"],
    ["one digit", { to: "3:00" }, "windows[0].to"],
    ["no length", { to: "02:00" }, "windows[0].to"],
    ["no such zone", { zone: "Europe/Atlantis" }, "windows[0].zone"],
    ["no such day", { days: ["sunday"] }, "windows[0].days"],
    ["no days", { days: [] }, "windows[0].days"],
  ];
  test.each(rows)("%s", (_, wrong, field) => {
    expect(readRules({ windows: [good] }).problems).toEqual([]);
    const { rules, problems } = readRules({ windows: [{ ...good, ...wrong } as MaintenanceWindow] });
    expect(problems.map((problem) => problem.field)).toEqual([field]);
    expect(rules.windows).toEqual([]);
  });
  const dates: [string, Freeze, string][] = [
    ["no such date", { from: "2026-02-30", to: "2026-03-01", zone: "UTC" }, "freezes[0].from"],
    ["words", { from: "2026-02-01", to: "easter", zone: "UTC" }, "freezes[0].to"],
    ["backwards", { from: "2026-03-02", to: "2026-03-01", zone: "UTC" }, "freezes[0].to"],
    ["no such zone", { from: "2026-03-02", to: "2026-03-03", zone: "" }, "freezes[0].zone"],
  ];
  test.each(dates)("freeze: %s", (_, freeze, field) => {
    expect(readRules({ freezes: [freeze] }).problems.map((problem) => problem.field)).toEqual([field]);
  });
  test("a minute is the smallest window", () => {
    expect(spans({ ...good, to: "02:01" }, "2026-03-29T00:00Z", "2026-03-30T00:00Z")).toHaveLength(1);
    expect(MINUTE).toBe(60_000);
  });
});
