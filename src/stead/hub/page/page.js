// The plain page. It shows what the live socket says and sends orders by REST. Everything from outside is set as text,
// never as markup; what is unknown is shown as "unknown" with its reason, never as zero.

const KEPT_MS = 10 * 60 * 1000;
const RETRY_MS = 2000;
const CHARTS = [ // what is charted, in this order: pattern of the metric, title (empty: the catalogue's)
  [/^infra\.cpu_utilization$/, 'CPU'], [/^infra\.memory_utilization$/, 'Memory'], [/^infra\.swap_used$/, 'Swap'],
  [/^infra\.psi_cpu_some$/, 'Pressure: CPU'], [/^infra\.psi_memory_full$/, 'Pressure: memory'], [/^infra\.psi_io_full$/, 'Pressure: IO'],
  [/^infra\.disk_usage$/, 'Disk space'], [/^disk\.read_bytes_per_second$/, 'Disk reads'], [/^disk\.written_bytes_per_second$/, 'Disk writes'],
  [/^network\.received_bytes_per_second$/, 'Received'], [/^network\.sent_bytes_per_second$/, 'Sent'],
  [/^(api|executor)\.(request_rate|latency_p95|queue_depth|worker_utilization)$/, ''],
];
const LISTS = ['status', 'findings', 'proposals', 'runs', 'top', 'unsupported'];
const MOST_CHARTS = 16;

const state = { away: false, status: null, metrics: new Map(), findings: [], proposals: [], runs: [], top: null, unsupported: {}, history: new Map(), asked: new Set() };
const at = (id) => document.getElementById(id);

/** Make an element: attributes, then children; strings become text. */
function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === 'class') made.className = value;
    else if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function number(value, unit = 'count') {
  if (value === null || value === undefined) return 'unknown';
  const binary = (size, per) => {
    const step = Math.min(5, Math.max(0, Math.floor(Math.log2(Math.max(Math.abs(size), 1)) / 10)));
    return `${step ? (size / 1024 ** step).toPrecision(3) : Math.round(size)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'][step]}${per}`;
  };
  if (unit === 'bytes') return binary(value, '');
  if (unit === 'bytes_per_second') return binary(value, '/s');
  if (unit === 'cores') return `${value.toFixed(2)} cores`;
  const text = Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(3)));
  const short = { percent: ' %', milliseconds: ' ms', seconds: ' s', hours: ' h', per_second: '/s', requests_per_second: ' req/s', ratio: '', count: '', bool: '' };
  return text + (short[unit] ?? ` ${unit.replaceAll('_', ' ')}`);
}

const clock = (ms) => new Date(ms).toLocaleTimeString();
const shown = (value) => (value === null || value === undefined ? 'unset' : typeof value === 'boolean' ? (value ? 'yes' : 'no')
  : typeof value === 'number' ? String(Number.isInteger(value) ? value : Number(value.toPrecision(4)))
  : typeof value === 'object' ? JSON.stringify(value) : String(value));
const tag = (text, kind = '') => el('span', { class: `tag ${kind}` }, text);
const target = (step) => `${step.target.kind}:${step.target.name}`;
const plain = (subject) => (/^(process|cgroup):/.test(subject) ? subject.replace(/@([a-z]+\.)?\d+$/, '') : subject);
const culprit = ({ process, pid } = {}) => (process ? `${process}${pid ? ` (pid ${pid})` : ''}` : '');
const named = (run) => [...new Set(run.proposal.steps.map(target))].join(', ') + (run.proposal.labels?.process ? ` (${run.proposal.labels.process})` : '');
const UNDONE = { person: 'a person asked for it', no_help: 'it did not help', not_held: 'it did not hold', lease: 'its lease ended', cleared: 'its reason is over', cancel: 'it was cancelled', paused: 'stead was paused', 'partial failure': 'a step failed' };

// ---- talking to the hub

async function call(method, path, body, headers = {}) {
  const options = { method, headers: { ...headers }, credentials: 'same-origin' };
  if (body !== undefined) {
    options.headers['Content-Type'] = 'application/json';
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(path, options);
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const problem = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(problem.detail || problem.title || `the hub answered ${answer.status}`), { status: answer.status });
}

async function order(button, path, body, headers = {}) {
  button.disabled = true;
  try {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    await call('POST', path, body, { 'Idempotency-Key': Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join(''), ...headers });
    complain('');
  } catch (error) {
    complain(error.message);
  }
  button.disabled = false;
}

function complain(text) {
  at('problem').textContent = text;
  at('problem').hidden = !text;
}

async function signIn(token) {
  await call('POST', '/api/v1/session', { token });
  complain('');
  watch();
}

function askToken() {
  at('login').hidden = false;
  at('main').hidden = at('controls').hidden = true;
  at('state').textContent = 'Not signed in';
  at('token').focus();
}

function watch() {
  at('login').hidden = true;
  const socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/api/v1/live`);
  socket.onmessage = (event) => take(JSON.parse(event.data));
  socket.onclose = async () => {
    at('state').textContent = 'Not connected; trying again…';
    try {
      await call('GET', '/api/v1/session');
    } catch (error) {
      if (error.status === 401) return askToken();
    }
    setTimeout(watch, RETRY_MS);
  };
}

// ---- what the socket says

function take(message) {
  if (message.kind === 'snapshot') state.metrics.clear();
  for (const view of message.metrics ?? []) state.metrics.set(`${view.metric} ${view.subject}`, view);
  for (const [metric, subject] of message.gone ?? []) state.metrics.delete(`${metric} ${subject}`);
  const changed = new Set();
  for (const name of LISTS) {
    if (message[name] !== undefined && message[name] !== null) {
      state[name] = message[name];
      changed.add(name);
    }
  }
  at('main').hidden = at('controls').hidden = state.status === null;
  at('main').classList.toggle('old', Boolean(message.problem));
  if (message.problem) {
    state.away = true;
    at('state').textContent = `unknown: ${message.problem.what}; what is shown below is old`;
    at('state').className = 'paused';
    return;
  }
  if (state.away) for (const name of LISTS) changed.add(name);
  state.away = false;
  for (const [key, view] of state.metrics) remember(key, message.at_ms, view.value, view.band);
  draw(changed, message.kind === 'snapshot' || changed.has('status'));
}

function remember(key, ms, value, band) {
  const points = state.history.get(key) ?? [];
  points.push([ms, value, band]);
  while (points.length && points[0][0] < ms - KEPT_MS) points.shift();
  state.history.set(key, points);
}

async function past(view) {
  const key = `${view.metric} ${view.subject}`;
  if (state.asked.has(key)) return;
  state.asked.add(key);
  try {
    const series = await call('GET', `/api/v1/metrics/${encodeURIComponent(view.metric)}/series?points=300&subject=${encodeURIComponent(view.subject)}`);
    const now = state.history.get(key) ?? [];
    const first = now.length ? now[0][0] : Infinity;
    state.history.set(key, [...series.at_ms.map((ms, i) => [ms, series.avg[i], '']).filter(([ms]) => ms < first), ...now]);
  } catch { /* the chart then begins now */ }
}

// ---- drawing

function draw(changed, all) {
  drawCharts();
  if (all) drawStatus(state.status);
  if (changed.has('findings')) list('findings', state.findings, findingCard, 'Nothing is wrong that stead can see.');
  if (changed.has('proposals')) list('proposals', state.proposals, (run) => runCard(run, true), 'Nothing to propose.');
  if (changed.has('runs')) {
    list('runs', state.runs, (run) => runCard(run, false), 'Nothing was changed on this host.');
    drawNotices();
  }
  if (changed.has('top') && state.top) drawTop(state.top);
  if (document.querySelector('#h-metrics + details').open) drawMetrics();
  at('n-metrics').textContent = state.metrics.size;
}

function list(id, items, card, empty) {
  const focused = document.activeElement?.dataset?.key;
  at(`n-${id}`).textContent = items.length || '';
  at(id).replaceChildren(...(items.length ? items.map(card) : [el('p', { class: 'soft' }, empty)]));
  if (focused) document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function drawStatus(status) {
  at('host').textContent = `on ${status.host} · ${status.version}`;
  const ceiling = status.autonomy.ceilings?.host;
  at('state').textContent = status.paused
    ? `PAUSED${status.pause_reason ? `: ${status.pause_reason}` : ''}: nothing is being changed`
    : { observe: 'observing only', advise: 'advising: nothing is changed until you say act', act: 'acting under the policy' }[status.mode]
      + ` · profile ${status.profile}${ceiling === undefined ? '' : ` · ceiling ${ceiling}`}${status.autonomy.locked ? ' · locked' : ''}`;
  at('state').className = status.paused ? 'paused' : '';
  for (const input of document.querySelectorAll('input[name=mode]')) input.checked = input.value === status.mode;
  at('pause').textContent = status.paused ? 'Resume' : 'Pause';
  at('pause').className = status.paused ? 'yes' : 'stop';
  const quiet = status.stations.filter((s) => s.name.startsWith('probe ') && s.ok && !s.detail); // they share a tag
  const rest = status.stations.filter((s) => !quiet.includes(s));
  drawIntent(status.intent ?? []);
  at('stations').replaceChildren(...[...rest, ...(quiet.length ? [{ name: `${quiet.length} probes`, ok: true }] : [])].map((s) =>
    el('li', {}, tag(`${s.name}: ${s.ok === null ? 'unknown' : s.ok ? 'well' : 'not well'}${s.detail ? `, ${s.detail}` : ''}`, s.ok === null ? '' : s.ok ? 'good' : 'critical'))));
}

/** What is protected and what may be slowed, who that is now, and what the protected lose. */
function drawIntent(intent) {
  const lost = (one) => Object.entries(one.lost ?? {}).filter(([, value]) => value !== null)
    .map(([what, value]) => `${number(value, 'percent')} of its time for ${{ cpu: 'CPU', io: 'IO' }[what] ?? what}`).join(', ');
  const more = (names) => `${names.slice(0, 4).join(', ')}${names.length > 4 ? ` and ${names.length - 4} more` : ''}`;
  const card = (one) => {
    const held = one.role === 'protect' && one.found.length ? (lost(one) ? `held up ${lost(one)}` : 'what it loses is not known') : '';
    return el('article', { class: `card ${one.miss > 1 ? 'warning' : ''}` },
      el('div', { class: 'row' }, tag(one.role === 'protect' ? 'protected' : 'may be slowed'), el('h3', {}, one.name), el('small', {}, held)),
      one.objective ? el('p', {}, one.objective, one.miss === null ? '' : `: ${number(one.miss)} times that `, one.miss === null ? null : one.miss > 1 ? tag('missed', 'warning') : tag('kept', 'good')) : null,
      el('p', { class: 'soft' }, more(one.found) || 'nothing matches now'),
      ...(one.left_out ?? []).map((why) => el('p', { class: 'soft' }, `Left alone: ${why}`)));
  };
  at('s-intent').hidden = !intent.length;
  at('intent').replaceChildren(...intent.map(card));
}

function charted() {
  const chosen = [];
  for (const [pattern, title] of CHARTS) {
    const found = [...state.metrics.values()].filter((view) => pattern.test(view.metric) && !chosen.some(([v]) => v === view));
    for (const view of found.slice(0, 4)) chosen.push([view, title || view.title || view.metric]);
  }
  return chosen.slice(0, MOST_CHARTS);
}

function drawCharts() {
  const cards = charted().map(([view, title]) => {
    past(view);
    const unknown = view.value === null;
    const name = view.subject === 'host' ? title : `${title} ${view.subject.split(':').slice(1).join(':') || view.subject}`;
    return el('article', { class: `card ${unknown || view.catalogued ? view.band : ''}` },
      el('h3', {}, name, ' ', el('small', {}, view.metric)),
      el('div', { class: 'row' },
        el('span', { class: unknown ? 'value none' : 'value' }, number(view.value, view.unit)),
        unknown ? tag(view.reason || 'no reason given', 'unknown') : view.catalogued ? tag(view.band, view.band) : null),
      sparkline(state.history.get(`${view.metric} ${view.subject}`) ?? [], view.unit, name));
  });
  at('charts').replaceChildren(...(cards.length ? cards : [el('p', { class: 'soft' }, 'No values yet.')]));
}

const SVG = 'http://www.w3.org/2000/svg';
function svg(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** A line over what is remembered, with gaps where nothing is known; warning and critical stretches shaded. */
function sparkline(points, unit, name) {
  const known = points.filter(([, value]) => value !== null && value !== undefined);
  const highest = Math.max(unit === 'percent' ? 100 : 0, ...known.map(([, value]) => value)) || 1;
  const end = points.length ? points[points.length - 1][0] : 0;
  const span = points.length ? Math.max(60000, end - points[0][0]) : KEPT_MS;
  const x = (ms) => (600 * (ms - end + span)) / span;
  const chart = svg('svg', { viewBox: '0 0 600 100', preserveAspectRatio: 'none', role: 'img',
    'aria-label': known.length ? `${name}: from ${number(Math.min(...known.map((p) => p[1])), unit)} to ${number(Math.max(...known.map((p) => p[1])), unit)}` : `${name}: no values` });
  let path = '';
  let pen = 'M';
  points.forEach(([ms, value, band], i) => {
    const next = i + 1 < points.length ? points[i + 1][0] : ms + 1000;
    if (['warning', 'critical', 'unknown'].includes(band)) {
      chart.append(svg('rect', { class: band, x: x(ms).toFixed(1), y: 0, width: Math.max(1, x(next) - x(ms)).toFixed(1), height: 100 }));
    }
    if (value === null || value === undefined) { pen = 'M'; return; }
    path += `${pen}${x(ms).toFixed(1)} ${(98 - (96 * value) / highest).toFixed(1)}`;
    const before = i ? ms - points[i - 1][0] : Infinity; // a metric that is seldom read has wide steps, and no gaps
    pen = next - ms > Math.max(15000, 3 * before) ? 'M' : 'L';
  });
  if (path) chart.append(svg('path', { d: path }));
  return chart;
}

function findingCard(finding) {
  return el('article', { class: `card ${finding.band}` },
    el('div', { class: 'row' }, tag(finding.band, finding.band), el('h3', {}, finding.title)),
    el('p', { class: 'soft' }, `${finding.metric} of ${plain(finding.subject)} is ${number(finding.value, finding.unit)}`
      + (finding.threshold === null ? '' : `, limit ${number(finding.threshold, finding.unit)}`)
      + ` · since ${clock(finding.since_ms)}${finding.folded ? ` · seen again ${finding.folded} times` : ''}`),
    finding.labels?.command ? el('p', { class: 'soft' }, el('code', {}, finding.labels.command)) : null);
}

function runCard(run, proposed) {
  const p = run.proposal;
  const acts = el('div', { class: 'acts' });
  const button = (text, kind, path, body, headers) => {
    const made = el('button', { type: 'button', class: kind, 'data-key': `${text} ${run.id}`, 'aria-label': `${text}: ${p.title}` }, text);
    made.addEventListener('click', () => order(made, path, body, headers));
    acts.append(made);
  };
  const id = encodeURIComponent(run.id);
  if (run.state === 'waiting') {
    button('Approve', 'yes', `/api/v1/proposals/${id}/approve`, undefined, { 'If-Match': `"${p.plan_hash}"` });
    button('Deny', 'stop', `/api/v1/proposals/${id}/deny`, {});
  }
  const own = p.steps.some((step) => step.actuator === 'autonomy'); // the mode is set, not undone
  if (['verifying', 'held', 'kept'].includes(run.state) && !own) button('Undo', '', `/api/v1/runs/${id}/undo`);
  if (['approved', 'acting'].includes(run.state)) button('Cancel', 'stop', `/api/v1/runs/${id}/cancel`);
  const kind = ['failed', 'undo_failed', 'conflict'].includes(run.state) ? 'critical' : ['waiting', 'undoing'].includes(run.state) ? 'warning'
    : ['expired', 'moot', 'denied', 'cancelled', 'refused', 'unsupported', 'advised'].includes(run.state) ? '' : 'good';
  const d = run.decision;
  return el('article', { class: `card ${proposed && run.state !== 'waiting' ? '' : kind}` },
    el('div', { class: 'row' }, tag(run.state, kind), el('h3', {}, p.title || p.playbook), el('small', {}, `${p.playbook} · risk ${p.risk} · tier ${p.tier} · ${clock(p.created_ms)}`), acts),
    p.impossible ? el('p', {}, `${culprit(p.labels)}${p.labels?.process ? ': ' : ''}${p.impossible}`) : null,
    ...p.steps.map((step) => diff(step, p.labels?.process)),
    d ? el('p', {}, 'Decided: ', el('strong', {}, d.would && d.advised ? `${d.answer} (in mode act: ${d.would})` : d.answer), ` by ${d.rules.join(', ') || 'no rule'}`, el('br'), el('small', {}, d.reasons.join('; '))) : null,
    p.prediction ? el('p', { class: 'soft' }, predicted(p.prediction)) : null,
    run.verdict ? el('p', {}, `Verdict: ${run.verdict.result.replaceAll('_', ' ')}: ${run.verdict.reason}`) : null,
    outcome(run) ? el('p', {}, outcome(run)) : null,
    run.lease_until_ms && !['undone', 'kept'].includes(run.state) ? el('p', { class: 'soft' }, `Undone by itself at ${clock(run.lease_until_ms)} unless renewed`) : null);
}

/** Why it is in its state, unless the decision or the verdict has just said so. */
function outcome(run) {
  if (run.undo_reason && ['undoing', 'undone'].includes(run.state)) return `${run.state === 'undone' ? 'Put back' : 'Being put back'}: ${UNDONE[run.undo_reason] ?? run.undo_reason}`;
  return [(run.decision?.reasons ?? []).join('; '), run.verdict?.reason, run.proposal.impossible].includes(run.reason) ? '' : run.reason;
}

function predicted(p) {
  const unit = p.metric.endsWith('_bytes') ? 'bytes' : 'count';
  const amount = p.relative ? `${Math.round(p.at_least * 100)} %` : number(p.at_least, unit);
  const from = p.baseline === null ? ', from a level not known yet' : `, from ${number(p.baseline, unit)}`;
  return `Predicts that ${p.metric} of ${plain(p.subject)} goes ${p.direction} by at least ${amount} within ${p.within_s} s${from}`;
}

function diff(step, process) {
  const before = step.before ?? {};
  const want = step.want ?? {};
  const keys = [...new Set([...Object.keys(before), ...Object.keys(want)])].filter((key) => shown(before[key]) !== shown(want[key]));
  const undo = { exact: 'can be put back exactly', lossy: 'undo is lossy', none: 'can not be undone' }[step.undo];
  const about = `${step.actuator} on ${target(step)}${process ? ` (${process})` : ''}: ${undo}${step.undo_reason ? `, ${step.undo_reason}` : ''}`;
  const rows = keys.map((key) => el('tr', {}, el('th', { scope: 'row' }, key), el('td', {}, el('del', {}, shown(before[key]))),
    el('td', {}, '→'), el('td', {}, el('ins', {}, shown(want[key])))));
  return el('div', { class: 'scroll' }, el('p', { class: 'soft' }, about), step.note ? el('p', { class: 'soft note' }, `Note: ${step.note}`) : null, el('table', { class: 'diff', 'aria-label': about }, ...rows));
}

/** Every tier-2 action that nobody was asked about is told here. */
function drawNotices() {
  const alone = state.runs.filter((run) => run.proposal.tier === 2 && run.acted_ms && !(run.approvals ?? []).length);
  at('notices').replaceChildren(...alone.slice(0, 5).map((run) =>
    el('p', { class: 'notice warning' }, `Tier 2 acted by itself at ${clock(run.acted_ms)}: ${run.proposal.title || run.proposal.playbook} on ${named(run)} (now ${run.state})`)));
}

function drawTop(top) {
  const row = (u) => el('tr', {}, el('td', { class: 'number' }, String(u.pid)), el('td', {}, u.name), el('td', { class: 'number' }, number(u.cpu_cores, 'cores')),
    el('td', { class: 'number' }, number(u.rss_bytes, 'bytes')), el('td', { class: 'number' }, number(u.io_bytes_per_s, 'bytes_per_second')), el('td', { class: 'wide' }, el('code', {}, u.command)));
  const head = ['pid', 'name', 'CPU', 'memory', 'IO', 'command'].map((text, i) => el('th', { scope: 'col', class: [0, 2, 3, 4].includes(i) ? 'number' : '' }, text));
  at('top').replaceChildren(el('p', { class: 'soft' }, `${top.total} processes, ${top.running} running`),
    el('div', { class: 'scroll' }, el('table', {}, el('thead', {}, el('tr', {}, ...head)), el('tbody', {}, ...top.by_cpu.map(row)))));
}

function drawMetrics() {
  const order = (v) => `${v.catalogued ? 0 : 1} ${v.metric} ${v.subject}`;
  const rows = [...state.metrics.values()].sort((a, b) => (order(a) < order(b) ? -1 : 1)).map((v) => el('tr', {}, el('td', {}, v.metric), el('td', {}, plain(v.subject)),
    el('td', { class: 'number' }, number(v.value, v.unit)), el('td', {}, v.catalogued || v.value === null ? tag(v.band, v.band) : null), el('td', { class: 'wide soft' }, v.value === null ? v.reason : v.title)));
  const missing = Object.entries(state.unsupported).map(([metric, what]) => el('tr', {}, el('td', {}, metric), el('td', {}, ''),
    el('td', { class: 'number' }, 'unknown'), el('td', {}, tag('unsupported')), el('td', { class: 'wide soft' }, what)));
  at('metrics').replaceChildren(el('div', { class: 'scroll' }, el('table', {}, el('tbody', {}, ...rows, ...missing))));
}

// ---- start

at('login').addEventListener('submit', async (event) => {
  event.preventDefault();
  try {
    await signIn(at('token').value.trim());
    at('token').value = '';
  } catch (error) {
    complain(error.message);
  }
});
at('controls').addEventListener('submit', (event) => event.preventDefault());
at('pause').addEventListener('click', () => {
  if (state.status.paused) order(at('pause'), '/api/v1/resume');
  else order(at('pause'), '/api/v1/pause', { reason: 'from the page' });
});
at('leave').addEventListener('click', async () => {
  await call('DELETE', '/api/v1/session').catch(() => null);
  location.reload();
});
for (const input of document.querySelectorAll('input[name=mode]')) {
  input.addEventListener('change', async () => {
    await order(input, '/api/v1/mode', { mode: input.value });
    drawStatus(state.status);
  });
}
document.querySelector('#h-metrics + details').addEventListener('toggle', drawMetrics);

const fromAddress = location.hash.slice(1);
if (fromAddress.startsWith('stead_')) {
  history.replaceState(null, '', location.pathname);
  signIn(fromAddress).catch((error) => { complain(error.message); askToken(); });
} else {
  call('GET', '/api/v1/session').then(watch, (error) => (error.status === 401 ? askToken() : (complain(error.message), setTimeout(watch, RETRY_MS))));
}
