// Reads jobs from standard input, one JSON object a line: {cols, rows, writes},
// the writes in base64. For each it writes to a fresh terminal and answers
// with a line of JSON: what is on the screen, as in the conformance recordings.
'use strict';
const { Terminal } = require('@xterm/headless');
const { Unicode11Addon } = require('@xterm/addon-unicode11');

const flags = [
  ['isBold', 'b'], ['isDim', 'd'], ['isItalic', 'i'], ['isUnderline', 'u'],
  ['isBlink', 'k'], ['isInverse', 'r'], ['isInvisible', 'h'], ['isStrikethrough', 's'],
];

function color(isDefault, isRGB, value) {
  if (isDefault) return 'd';
  if (isRGB) return '#' + value.toString(16).padStart(6, '0');
  return 'p' + value;
}

function screen(term, replies) {
  const buf = term.buffer.active;
  const rows = [];
  for (let y = 0; y < term.rows; y++) {
    const line = buf.getLine(buf.baseY + y);
    const row = [];
    for (let x = 0; x < term.cols; x++) {
      const c = line.getCell(x);
      row.push([
        c.getWidth() === 0 ? '' : c.getChars() || ' ',
        color(c.isFgDefault(), c.isFgRGB(), c.getFgColor()),
        color(c.isBgDefault(), c.isBgRGB(), c.getBgColor()),
        flags.filter(([is]) => c[is]()).map(([, f]) => f).join(''),
      ]);
    }
    rows.push(row);
  }
  const history = [];
  for (let y = 0; y < term.buffer.normal.baseY; y++) {
    history.push(term.buffer.normal.getLine(y).translateToString(true));
  }
  return {
    rows, history, replies,
    cx: buf.cursorX, cy: buf.cursorY, alt: buf.type === 'alternate', modes: term.modes,
  };
}

async function run(job) {
  const term = new Terminal({ cols: job.cols, rows: job.rows, scrollback: 5000, logLevel: 'off', allowProposedApi: true });
  term.loadAddon(new Unicode11Addon());
  term.unicode.activeVersion = '11';
  let replies = '';
  term.onData((d) => { replies += d; });
  for (const w of job.writes) {
    await new Promise((done) => term.write(Buffer.from(w || '', 'base64'), done));
  }
  const s = screen(term, replies);
  term.dispose();
  return s;
}

const lines = require('readline').createInterface({ input: process.stdin });
let last = Promise.resolve();
lines.on('line', (line) => {
  last = last.then(async () => {
    process.stdout.write(JSON.stringify(await run(JSON.parse(line))) + '\n');
  });
});
