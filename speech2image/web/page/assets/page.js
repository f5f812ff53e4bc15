// The page: a tab for one recording, a tab for what lies between two. A newer request cuts the one before it.
import { find, make, notice, reveal, settingsOf } from './dom.js';
import { setUpInterpolation } from './between.js';
import { Live } from './live.js';
import { makeRecorder } from './recorder.js';
import { Pictures, recording } from './results.js';
import { ask, events, keep, makeTask } from './server.js';
import { sayIn, showStateOf } from './state.js';
import { exampleOf, sentenceOf } from './subjects.js';
import { HOPELESS } from './wording.js';

const SIDE_BY_SIDE = 'side by side';
const MOST_EARLIER = 24; // drawings that the history keeps
const say = sayIn('say');

const form = find('#say-options'), pictures = find('#pictures'), heard = find('#heard'), again = find('#again');
const earlier = find('#earlier'), sentence = find('#sentence');
const first = pictures.innerHTML;
let subject = null, shown = null, recorder = null;

// ---- settings ------------------------------------------------------------------------------------

// What pictures are drawn with; `recipe` is about what is saved.
function chosenSettings() {
  const { recipe, ...settings } = settingsOf(form);
  return settings;
}

function setSettings(settings) {
  for (const [name, value] of Object.entries(settings)) {
    const field = form.elements[name];
    if (!field || (field.options && ![...field.options].some((option) => option.value === value))) continue;
    if (field.type === 'checkbox') field.checked = value === '1'; else field.value = value;
  }
  find('.s2i-value', form).textContent = form.elements.n.value;
}

const routesOf = ({ route }) => (route !== SIDE_BY_SIDE ? [route]
  : [...form.elements.route].map((choice) => choice.value).filter((name) => name !== SIDE_BY_SIDE));

const withRoute = (settings, route) => ({ ...settings, ...(route ? { route } : {}) });

// ---- drawing -------------------------------------------------------------------------------------

const run = makeTask(pictures, (refusal) => {
  say('', ''); // the notice is read as it comes
  pictures.replaceChildren(notice('No pictures this time', refusal.message));
  heard.replaceChildren();
  if (HOPELESS.has(refusal.code)) { subject = null; again.disabled = true; }
  reveal(pictures);
});

// Draws `subject` with the settings chosen; `anyway` of it: also if the model says that it cannot draw it.
async function draw(signal) {
  const own = subject, settings = chosenSettings(), routes = routesOf(settings), parts = [], n = Number(settings.n);
  again.disabled = false;
  recorder.tell(own.name || '');
  say('Understanding');
  const box = make('div', { class: 's2i-side', 'data-count': routes.length });
  let drawn = 0;
  for (const route of routes) {
    const wanted = { ...withRoute(settings, route), sound: own.heard || own.silent ? 0 : 1, anyway: own.anyway ? 1 : 0 };
    const answer = await ask('page/pictures', wanted, own.body, signal, say);
    for await (const event of events(answer)) {
      if (event.event === 'heard') {
        if (event.recording) own.heard = recording(event.recording);
        const part = new Pictures(own, event, {
          title: routes.length > 1 ? route : '', count: n,
          keep: (k) => save(own, withRoute(settings, route), k),
          anyway: own.anyway ? null : () => run((next) => { subject = { ...own, anyway: true }; return draw(next); }),
        });
        parts.push(part);
        box.append(part.element);
        if (parts.length === 1) { pictures.replaceChildren(box); heard.replaceChildren(...(own.heard ? [own.heard] : [])); reveal(pictures); }
      } else if (event.event === 'picture') {
        parts.at(-1).add(event);
        drawn += 1;
        say(`Drawing ${drawn} of ${n * routes.length}`, drawn === 1 ? 'Drawing' : '');
      } else if (event.event === 'other') parts.at(-1).stop();
      else parts.at(-1).end(event.seconds, () => share(own, settings));
    }
  }
  say(drawn ? `${drawn} ${drawn === 1 ? 'picture' : 'pictures'} drawn` : 'Nothing drawn: I do not know this');
  shown = { own, settings, box };
  if (drawn) remember(shown);
}

const start = (what) => run(async (signal) => { subject = await what(signal); await draw(signal); });

// The picture as it was drawn: what is shown is compressed.
async function save(own, settings, k) {
  const place = k === null ? {} : { k };
  try {
    const { recipe } = settingsOf(form);
    const answer = await ask('page/picture', { ...settings, ...place, recipe }, own.body, new AbortController().signal, say);
    keep(await answer.blob(), `${settings.model || 'picture'}-${settings.seed}${k === null ? '' : `-${k + 1}`}.png`);
    say('Saved');
  } catch (error) {
    say(error.message);
  }
}

// ---- links and history ---------------------------------------------------------------------------

async function share(own, settings) {
  const said = own.example ? { example: own.example } : own.sentence ? { say: own.sentence } : {};
  if (own.anyway) said.anyway = '1';
  const link = new URL(`#${new URLSearchParams({ ...settings, ...said })}`, location.href);
  const told = own.example || own.sentence ? 'Link copied: it draws the same pictures'
    : 'Link copied: it holds the settings and the seed, but not your recording';
  try {
    if (navigator.share && window.matchMedia('(pointer: coarse)').matches) await navigator.share({ title: document.title, url: link.href });
    else { await navigator.clipboard.writeText(link.href); say(told); }
  } catch (error) {
    if (error.name === 'AbortError') return;
    history.replaceState(null, '', link); // no clipboard: the address bar has it
    say('The address of this page is now the link to share');
  }
}

function followLink() {
  const { example, say: said, anyway, ...settings } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  setSettings(settings);
  const known = example && find(`[data-example="${CSS.escape(example)}"]`);
  const also = async (what) => ({ ...await what, anyway: anyway === '1' });
  if (known) start((signal) => also(exampleOf(example, known.dataset.text, signal)));
  else if (said) { sentence.elements.text.value = said; start((signal) => also(sentenceOf(said, signal, say))); }
}

function remember(drawing) {
  const picture = find('img', drawing.box);
  const about = drawing.own.caption || find('.s2i-transcript q', drawing.box)?.textContent || 'a recording';
  const label = `${about}, seed ${drawing.settings.seed}`;
  const button = make('button', { type: 'button', class: 's2i-past', title: label, 'aria-label': `Show again: ${label}`, onclick: () => restore(drawing) },
    make('img', { src: picture.src, alt: '' }));
  find('.s2i-strip', earlier).prepend(button);
  [...earlier.querySelectorAll('.s2i-past')].slice(MOST_EARLIER).forEach((old) => old.remove());
  earlier.hidden = earlier.querySelectorAll('.s2i-past').length < 2;
}

// Shows what was drawn earlier; its settings and its seed are chosen again.
function restore({ own, settings, box }) {
  run.cancel();
  subject = own;
  shown = { own, settings, box };
  setSettings(settings);
  pictures.replaceChildren(box);
  heard.replaceChildren(...(own.heard ? [own.heard] : []));
  again.disabled = false;
  recorder.tell(own.name || '');
  const count = box.querySelectorAll('.s2i-grid img').length;
  say(count ? `${count} pictures from before` : '');
  reveal(pictures);
}

function showLast() {
  if (shown) return restore(shown);
  pictures.innerHTML = first;
  recorder.tell('');
  heard.replaceChildren();
}

// ---- one recording -------------------------------------------------------------------------------

function setUpRecording() {
  let live = null;
  recorder = makeRecorder(find('#recorder-say'), say, {
    taken: (body, name) => { live?.close(); start(async () => ({ body, name })); },
    started: () => {
      run.cancel();
      heard.replaceChildren();
      const settings = chosenSettings();
      live = new Live(pictures, withRoute(settings, routesOf(settings)[0]));
      reveal(pictures);
    },
    slice: (sound) => live.send(sound),
    cancelled: () => { live.close(); showLast(); },
  });
  again.addEventListener('click', () => {
    form.elements.seed.value = (Number(form.elements.seed.value) || 0) + 1;
    run(draw);
  });
  form.addEventListener('change', ({ target }) => { if (subject && target.name !== 'recipe') run(draw); });
  sentence.addEventListener('submit', (event) => {
    event.preventDefault();
    const text = sentence.elements.text.value;
    start((signal) => sentenceOf(text, signal, say));
  });
  document.querySelectorAll('.s2i-suggestion').forEach((button) => button.addEventListener('click', () => {
    sentence.elements.text.value = button.textContent;
    sentence.requestSubmit();
  }));
  document.querySelectorAll('[data-example]').forEach((button) => button.addEventListener('click', () => {
    start((signal) => exampleOf(button.dataset.example, button.dataset.text, signal));
  }));
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || find('dialog[open]') || !run.cancel()) return;
    say('Cancelled');
    showLast();
  });
}

// ---- tabs, options, pictures of examples -----------------------------------------------------------

function setUpTabs() {
  const tabs = [...document.querySelectorAll('[role=tab]')];
  const select = (tab) => {
    for (const other of tabs) {
      other.setAttribute('aria-selected', String(other === tab));
      other.tabIndex = other === tab ? 0 : -1;
      document.getElementById(other.getAttribute('aria-controls')).hidden = other !== tab;
    }
    showStateOf(tab.getAttribute('aria-controls'));
  };
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
    const options = document.getElementById(button.getAttribute('aria-controls'));
    options.hidden = !options.hidden;
    button.setAttribute('aria-expanded', String(!options.hidden));
  }));
  document.querySelectorAll('.s2i-options form').forEach((options) => {
    options.addEventListener('submit', (event) => event.preventDefault());
    options.elements.n.addEventListener('input', () => { find('.s2i-value', options).textContent = options.elements.n.value; });
  });
}

setUpRecording();
setUpInterpolation();
setUpTabs();
setUpOptions();
followLink();
