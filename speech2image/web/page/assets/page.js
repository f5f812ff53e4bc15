// The page: a tab for one recording, a tab for what lies between two. Whatever is asked of the server is one request,
// and its answer is shown; a newer request cuts the one before it.
import { makeRecorder } from './recorder.js';

const find = (selector, within = document) => within.querySelector(selector);

// ---- asking the server ---------------------------------------------------------------------------

function notice(message, title) {
  const box = document.createElement('div'), head = document.createElement('strong'), text = document.createElement('p');
  box.className = 's2i-notice';
  box.setAttribute('role', 'alert');
  head.textContent = title;
  text.textContent = message;
  box.append(head, text);
  return box;
}

async function ask(path, settings, body, signal) {
  const answer = await fetch(`${path}?${new URLSearchParams(settings)}`, { method: 'POST', body, signal });
  if (answer.ok) return answer;
  if (answer.status === 401) location.reload(); // the key is asked for again
  const problem = await answer.json().catch(() => ({ detail: answer.statusText }));
  throw new Error(problem.detail);
}

// Runs one piece of work at a time, the newest, whose problems are shown in `box`.
function makeTask(box, work) {
  let running = null;
  return async (...values) => {
    if (running) running.abort();
    const own = running = new AbortController();
    box.setAttribute('aria-busy', 'true');
    try {
      await work(own.signal, ...values);
    } catch (error) {
      if (own.signal.aborted) return;
      const offline = error instanceof TypeError;
      show(box, notice(offline ? 'The server does not answer. Please try again.' : error.message,
        error.title || 'No pictures this time'));
      box.dispatchEvent(new Event('problem'));
    } finally {
      if (running === own) box.removeAttribute('aria-busy');
    }
  };
}

function show(box, content) {
  if (typeof content === 'string') box.innerHTML = content; else box.replaceChildren(content);
  // Where the pictures lie below the button to speak (a phone), show them when they come.
  if (!window.matchMedia('(max-width: 640px)').matches) return;
  const calm = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
  box.scrollIntoView({ behavior: calm ? 'auto' : 'smooth', block: 'start' });
}

const settingsOf = (form) => Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value || '0']));

// ---- one recording -------------------------------------------------------------------------------

function setUpRecording() {
  const pictures = find('#pictures'), heard = find('#heard'), again = find('#again'), form = find('#say-options');
  let recording = null;

  async function draw(signal) {
    const answer = await ask('page/pictures', settingsOf(form), recording, signal);
    const parts = await answer.json();
    show(pictures, parts.pictures);
    heard.innerHTML = parts.heard;
    again.disabled = false;
  }

  async function speak(signal, text) {
    try {
      recording = await (await ask('page/speech', {}, text, signal)).blob();
    } catch (error) {
      error.title = 'The sentence was not spoken';
      throw error;
    }
    await draw(signal);
  }

  const run = makeTask(pictures, (signal, work, ...values) => work(signal, ...values));
  pictures.addEventListener('problem', () => { heard.replaceChildren(); });
  makeRecorder(find('#recorder-say'), (blob) => { recording = blob; run(draw); });
  again.addEventListener('click', () => {
    form.elements.seed.value = (Number(form.elements.seed.value) || 0) + 1;
    run(draw);
  });
  find('#sentence').addEventListener('submit', (event) => {
    event.preventDefault();
    run(speak, event.target.elements.text.value);
  });
}

// ---- between two recordings ----------------------------------------------------------------------

function setUpInterpolation() {
  const box = find('#interpolation'), form = find('#between-options'), recordings = {};

  const interpolate = makeTask(box, async (signal) => {
    const missing = ['first', 'second'].filter((name) => !recordings[name]);
    if (missing.length) {
      const text = `Please record the ${missing.join(' and the ')} description.`;
      throw Object.assign(new Error(text), { title: 'One moment' });
    }
    const body = new FormData();
    for (const name of ['first', 'second']) body.append(name, recordings[name], name);
    show(box, (await (await ask('page/interpolation', settingsOf(form), body, signal)).json()).interpolation);
  });

  for (const name of ['first', 'second']) {
    makeRecorder(find(`#recorder-${name}`), (blob) => {
      recordings[name] = blob;
      if (recordings.first && recordings.second) interpolate();
    });
  }
  find('#interpolate').addEventListener('click', () => interpolate());
  box.addEventListener('input', (event) => {
    if (event.target.matches('input[type=range]')) choose(box, Number(event.target.value));
  });
  box.addEventListener('click', (event) => {
    const step = event.target.closest('.s2i-step');
    if (step) choose(box, Number(step.dataset.step));
  });
}

// The slider and the small pictures choose which picture is shown large.
function choose(box, step) {
  const steps = box.querySelectorAll('.s2i-step'), chosen = steps[step];
  const large = find('.s2i-large', box), slider = find('input[type=range]', box);
  large.src = find('img', chosen).src;
  large.alt = chosen.getAttribute('aria-label');
  slider.value = step;
  slider.setAttribute('aria-valuetext', large.alt);
  steps.forEach((other) => other.classList.toggle('s2i-chosen', other === chosen));
}

// ---- tabs and options ----------------------------------------------------------------------------

function setUpTabs() {
  const tabs = [...document.querySelectorAll('[role=tab]')];
  const select = (tab) => tabs.forEach((other) => {
    other.setAttribute('aria-selected', String(other === tab));
    other.tabIndex = other === tab ? 0 : -1;
    document.getElementById(other.getAttribute('aria-controls')).hidden = other !== tab;
  });
  tabs.forEach((tab, k) => {
    tab.addEventListener('click', () => select(tab));
    tab.addEventListener('keydown', (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(k + step + tabs.length) % tabs.length];
      select(next);
      next.focus();
    });
  });
}

function setUpOptions() {
  document.querySelectorAll('.s2i-unfold').forEach((button) => button.addEventListener('click', () => {
    const form = document.getElementById(button.getAttribute('aria-controls'));
    form.hidden = !form.hidden;
    button.setAttribute('aria-expanded', String(!form.hidden));
  }));
  document.querySelectorAll('.s2i-options form').forEach((form) => {
    form.addEventListener('submit', (event) => event.preventDefault());
    form.elements.n.addEventListener('input', () => { find('.s2i-value', form).textContent = form.elements.n.value; });
  });
}

setUpRecording();
setUpInterpolation();
setUpTabs();
setUpOptions();
