// Where the pictures lie below the button to speak (a phone), show them when they come.
watch('value', () => {
  if (!window.matchMedia('(max-width: 640px)').matches) return;
  const calm = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
  element.scrollIntoView({ behavior: calm ? 'auto' : 'smooth', block: 'start' });
});
