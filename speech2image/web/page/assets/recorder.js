// A button to hold and speak, and a place to drop a file.
const TAP = 400; // milliseconds: a shorter press starts, and the next one stops
const SLIDE = 90; // pixels away from the button: letting go there cancels
const SLICE = 100; // milliseconds of sound handed on at once while somebody speaks

function whyNot(error) {
  if (!window.isSecureContext) {
    return 'Browsers give the microphone only to pages over https or on this machine (localhost). ' +
      'Please drop a recording or type a sentence instead.';
  }
  if (error && (error.name === 'NotAllowedError' || error.name === 'SecurityError')) {
    return 'The microphone is not allowed. Allow it for this page in the browser, then press again. ' +
      'You can also drop a recording or type a sentence.';
  }
  if (error && (error.name === 'NotFoundError' || error.name === 'OverconstrainedError')) {
    return 'No microphone was found. Connect one and press again, or drop a recording or type a sentence.';
  }
  return 'The microphone cannot be used' + (error ? ` (${error.message || error.name})` : '') +
    '. Please drop a recording or type a sentence.';
}

// Makes the recorder in `element` work; `say` tells what goes on. `on` may hold: `taken(blob, name)`, called with each
// recording; `started()`; `slice(blob)`, called with each part of a recording that goes on; `cancelled()`.
export function makeRecorder(element, say, on) {
  const find = (selector) => element.querySelector(selector);
  const root = find('.s2i-recorder'), button = find('.s2i-talk'), status = find('.s2i-status');
  const input = find('input[type=file]'), level = find('.s2i-level'), hint = find('.s2i-hint');
  const maxSeconds = Number(root.dataset.seconds), maxBytes = Number(root.dataset.bytes), resting = hint.innerHTML;
  let recorder = null, pressed = false, pressedAt = 0, tapped = false, handledAt = 0, starting = false, away = false;

  function tell(text, problem) {
    status.textContent = text;
    status.classList.toggle('s2i-problem', Boolean(problem));
    if (problem) say('', text);
  }

  async function take(blob, name) {
    if (!blob.size) return tell('The recording is empty. Please try again.', true);
    if (blob.size > maxBytes) {
      return tell(`This file has ${(blob.size / 1e6).toFixed(0)} MB, at most ${(maxBytes / 1e6).toFixed(0)} are allowed. ` +
        'Please choose a shorter recording.', true);
    }
    try {
      const content = await blob.arrayBuffer(); // so that a file which is changed or moved later can be drawn again
      tell(name);
      on.taken(new Blob([content], { type: blob.type }), name);
    } catch (error) {
      tell('The file cannot be read.', true);
    }
  }

  function show(recording) {
    button.setAttribute('aria-pressed', String(recording));
    root.classList.toggle('s2i-recording', recording);
    if (!recording) { hint.innerHTML = resting; slide(false); }
  }

  function slide(off) {
    away = off;
    root.classList.toggle('s2i-away', off);
  }

  function advise() {
    const text = tapped ? 'Press again to draw' : away ? 'Release to cancel' : 'Release to draw, slide away to cancel';
    if (hint.textContent !== text) hint.textContent = text;
  }

  function meter(stream) {
    const context = new AudioContext(), analyser = context.createAnalyser(), samples = new Float32Array(1024);
    analyser.fftSize = 2048;
    context.createMediaStreamSource(stream).connect(analyser);
    const startedAt = performance.now();
    const draw = () => {
      if (!recorder) { context.close(); level.style.transform = ''; return; }
      analyser.getFloatTimeDomainData(samples);
      const peak = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
      level.style.transform = `scale(${1 + 0.45 * Math.min(1, Math.sqrt(peak))})`;
      const seconds = (performance.now() - startedAt) / 1000;
      if (seconds >= maxSeconds - 0.5) return stop();
      const text = `Listening, ${Math.floor(seconds)} s`; // not read out: the microphone would hear it
      if (status.textContent !== text) tell(text);
      advise();
      requestAnimationFrame(draw);
    };
    draw();
  }

  async function start() {
    if (recorder || starting) return;
    starting = true;
    try {
      if (!navigator.mediaDevices || !window.MediaRecorder) throw null;
      const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
      const parts = [], startedAt = performance.now();
      recorder = new MediaRecorder(stream);
      recorder.dropped = false;
      recorder.ondataavailable = (event) => { parts.push(event.data); if (!recorder?.dropped) on.slice?.(event.data); };
      recorder.onstop = () => {
        const blob = new Blob(parts, { type: recorder.mimeType }), dropped = recorder.dropped;
        stream.getTracks().forEach((track) => track.stop());
        recorder = null;
        show(false);
        if (!dropped) return take(blob, `Recorded ${((performance.now() - startedAt) / 1000).toFixed(1)} s`);
        say('Cancelled');
        on.cancelled?.();
        tell('Cancelled');
      };
      recorder.start(SLICE);
      navigator.vibrate?.(30);
      tapped = !pressed; // let go while the browser still asked for permission
      show(true);
      say('Listening');
      on.started?.();
      meter(stream);
    } catch (error) {
      show(false);
      tell(whyNot(error), true);
    } finally {
      starting = false;
    }
  }

  function stop(dropped = false) {
    if (!recorder || recorder.state !== 'recording') return;
    recorder.dropped = dropped;
    recorder.stop();
    navigator.vibrate?.(dropped ? [20, 60, 20] : 20);
  }

  function press() {
    handledAt = performance.now();
    if (recorder) { tapped = false; pressed = false; stop(); return; }
    pressed = true;
    pressedAt = performance.now();
    start();
  }

  function release() {
    handledAt = performance.now();
    if (!pressed) return;
    pressed = false;
    if (!recorder) return;
    if (away) return stop(true);
    if (performance.now() - pressedAt < TAP) { tapped = true; return; }
    stop();
  }

  button.addEventListener('pointerdown', (event) => {
    if (event.button) return;
    event.preventDefault();
    button.focus();
    if (event.isTrusted) button.setPointerCapture(event.pointerId);
    press();
  });
  button.addEventListener('pointermove', (event) => {
    if (!pressed || !recorder) return;
    const box = button.getBoundingClientRect();
    slide(Math.hypot(event.clientX - box.x - box.width / 2, event.clientY - box.y - box.height / 2) > SLIDE);
  });
  button.addEventListener('pointerup', release);
  button.addEventListener('pointercancel', release);
  button.addEventListener('contextmenu', (event) => event.preventDefault());
  button.addEventListener('keydown', (event) => {
    if (event.key !== ' ' && event.key !== 'Enter') return;
    event.preventDefault();
    if (!event.repeat) press();
  });
  button.addEventListener('keyup', (event) => {
    if (event.key === ' ' || event.key === 'Enter') { event.preventDefault(); release(); }
  });
  button.addEventListener('click', () => {
    // A screen reader clicks without pressing: that starts, and the next click stops.
    if (performance.now() - handledAt < 1000) return;
    if (recorder) stop(); else { pressed = false; start(); }
  });
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && recorder) { event.preventDefault(); pressed = false; stop(true); }
  });

  find('.s2i-choose').addEventListener('click', () => input.click());
  const chosen = () => {
    if (input.files.length) take(input.files[0], input.files[0].name);
    input.value = '';
  };
  input.addEventListener('change', chosen);
  chosen(); // before this script ran
  root.addEventListener('dragover', (event) => { event.preventDefault(); root.classList.add('s2i-over'); });
  root.addEventListener('dragleave', () => root.classList.remove('s2i-over'));
  root.addEventListener('drop', (event) => {
    event.preventDefault();
    root.classList.remove('s2i-over');
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0], event.dataTransfer.files[0].name);
  });
  return { tell };
}
