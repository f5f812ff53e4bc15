// The slider and the small pictures choose which picture is shown large.
function choose(step) {
  const steps = element.querySelectorAll('.s2i-step'), chosen = steps[step];
  const large = element.querySelector('.s2i-large'), slider = element.querySelector('input[type=range]');
  large.src = chosen.querySelector('img').src;
  large.alt = chosen.getAttribute('aria-label');
  slider.value = step;
  slider.setAttribute('aria-valuetext', large.alt);
  steps.forEach((other) => other.classList.toggle('s2i-chosen', other === chosen));
}
element.addEventListener('input', (event) => {
  if (event.target.matches('input[type=range]')) choose(Number(event.target.value));
});
element.addEventListener('click', (event) => {
  const step = event.target.closest('.s2i-step');
  if (step) choose(Number(step.dataset.step));
});
