function fgrSwipe(root) {
  const part = name => root.querySelector(`[data-part=${name}]`);
  const data = JSON.parse(root.querySelector('script').textContent);
  const stage = root.querySelector('.swipe-stage'), divider = root.querySelector('.swipe-divider');
  const panes = [...root.querySelectorAll('.swipe-pane')], chosen = [part('left'), part('right')];
  const state = {split: 0.5, zoom: 1, x: 0.5, y: 0.5, width: 1, height: 1};
  const within = (value, low, high) => Math.min(Math.max(value, low), high);
  const scene = () => data.scenes[+part('scene').value || 0];

  function fill(select, names, wanted) {
    select.replaceChildren(...names.map((name, i) => new Option(name, i)));
    select.value = Math.max(0, names.indexOf(wanted) >= 0 ? names.indexOf(wanted) : select === chosen[1] ? Math.min(1, names.length - 1) : 0);
  }

  function show(number, left, right) {
    const before = chosen.map(select => select.selectedOptions[0]?.text);
    part('scene').value = within(number, 0, data.scenes.length - 1);
    const names = scene().pictures.map(picture => picture.name);
    chosen.forEach((select, i) => fill(select, names, [left, right][i] ?? before[i]));
    load();
  }

  function load() {
    const first = new Image();
    first.onload = () => { state.width = first.naturalWidth; state.height = first.naturalHeight; draw(); };
    first.src = data.images[scene().pictures[0].image];
    chosen.forEach((select, i) => {
      const picture = scene().pictures[+select.value], [base, over] = panes[i].querySelectorAll('img');
      base.src = data.images[picture.image];
      base.alt = `${scene().name}: ${picture.name}`;
      over.hidden = picture.map === null || !part('map').checked;
      if (picture.map !== null) { over.src = data.images[picture.map]; over.style.opacity = part('opacity').value / 100; }
      panes[i].querySelector('figcaption').textContent = picture.note ? `${picture.name} · ${picture.note}` : picture.name;
    });
    draw();
  }

  function scale() {
    const pane = panes[0];
    return state.zoom * Math.min(pane.clientWidth / state.width, pane.clientHeight / state.height);
  }

  function draw() {
    const beside = part('beside').checked, narrow = matchMedia('(max-width: 700px)').matches;
    stage.classList.toggle('beside', beside);
    stage.classList.toggle('zoomed', state.zoom > 1.001);
    const copies = beside ? (narrow ? [1, 2] : [2, 1]) : [1, 1], ratio = state.height * copies[1] / (state.width * copies[0]);
    stage.style.height = `${Math.round(Math.min(stage.clientWidth * ratio, innerHeight * 0.78))}px`;
    const size = scale(), at = state.split * 100;
    panes.forEach((pane, i) => {
      const layers = pane.firstElementChild, half = [pane.clientWidth / 2, pane.clientHeight / 2];
      for (const [axis, side, room] of [['x', state.width, half[0]], ['y', state.height, half[1]]]) {
        const edge = Math.min(0.5, room / (side * size));
        state[axis] = within(state[axis], edge, 1 - edge);
      }
      layers.style.width = `${state.width * size}px`;
      layers.style.height = `${state.height * size}px`;
      layers.style.transform = `translate(${half[0] - state.x * state.width * size}px,${half[1] - state.y * state.height * size}px)`;
      layers.classList.toggle('pixels', size * devicePixelRatio >= 3);
      pane.style.clipPath = i ? `inset(0 0 0 ${at}%)` : `inset(0 ${100 - at}% 0 0)`;
    });
    divider.style.left = `${at}%`;
    divider.setAttribute('aria-valuenow', Math.round(at));
    part('zoom').value = `${Math.round(size * 100)} %`;
  }

  function zoom(factor, event) {
    const size = scale(), box = panes[0].getBoundingClientRect();
    const from = event ? [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2] : [0, 0];
    state.zoom = within(state.zoom * factor, 1, 32);
    const now = scale();
    state.x += from[0] / state.width * (1 / size - 1 / now);
    state.y += from[1] / state.height * (1 / size - 1 / now);
    draw();
  }

  function fit() { Object.assign(state, {zoom: 1, x: 0.5, y: 0.5}); draw(); }
  function move(dx, dy) { const size = scale(); state.x -= dx / (state.width * size); state.y -= dy / (state.height * size); draw(); }
  function split(value) { state.split = within(value, 0, 1); draw(); }
  function swap() { const [a, b] = chosen.map(select => select.value); chosen[0].value = b; chosen[1].value = a; load(); }

  const keys = {
    ArrowLeft: e => e.shiftKey ? move(40, 0) : split(state.split - 0.02),
    ArrowRight: e => e.shiftKey ? move(-40, 0) : split(state.split + 0.02),
    ArrowUp: e => e.shiftKey && move(0, 40), ArrowDown: e => e.shiftKey && move(0, -40),
    Home: () => split(0), End: () => split(1), '+': () => zoom(1.5), '=': () => zoom(1.5), '-': () => zoom(1 / 1.5), 0: fit,
    PageUp: () => show(+part('scene').value - 1), PageDown: () => show(+part('scene').value + 1), x: swap,
    m: () => { part('map').checked = !part('map').checked; load(); },
  };
  stage.addEventListener('keydown', e => {
    const act = !e.ctrlKey && !e.metaKey && !e.altKey && keys[e.key.length > 1 ? e.key : e.key.toLowerCase()];
    if (act && act(e) !== false) e.preventDefault();
  });

  const fingers = new Map();
  stage.addEventListener('pointerdown', e => {
    if (e.button) return;
    fingers.set(e.pointerId, e);
    stage.setPointerCapture(e.pointerId);
    stage.dataset.drag = e.target === divider || state.zoom <= 1.001 && !part('beside').checked ? 'split' : 'move';
    if (stage.dataset.drag === 'split') drag(e);
  });
  function drag(e) { const box = stage.getBoundingClientRect(); split((e.clientX - box.left) / box.width); }
  stage.addEventListener('pointermove', e => {
    const before = fingers.get(e.pointerId);
    if (!before) return;
    const other = [...fingers.values()].find(one => one.pointerId !== e.pointerId);
    if (other) {
      const apart = one => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
      zoom(apart(e) / apart(before), {clientX: (e.clientX + other.clientX) / 2, clientY: (e.clientY + other.clientY) / 2});
    } else if (stage.dataset.drag === 'split') drag(e);
    else move(e.clientX - before.clientX, e.clientY - before.clientY);
    fingers.set(e.pointerId, e);
  });
  for (const end of ['pointerup', 'pointercancel']) stage.addEventListener(end, e => fingers.delete(e.pointerId));
  stage.addEventListener('wheel', e => {
    if (!e.ctrlKey && !stage.contains(document.activeElement)) return;
    e.preventDefault();
    zoom(Math.exp(-within(e.deltaY, -200, 200) / 250), e);
  }, {passive: false});
  stage.addEventListener('dblclick', e => state.zoom > 1.001 ? fit() : zoom(4, e));
  root.querySelectorAll('[data-zoom]').forEach(button => button.addEventListener('click', () =>
    ({in: () => zoom(1.5), out: () => zoom(1 / 1.5), fit})[button.dataset.zoom]()));
  part('scene').addEventListener('change', () => show(+part('scene').value));
  for (const name of ['left', 'right', 'map', 'opacity', 'beside']) part(name).addEventListener('input', load);
  new ResizeObserver(draw).observe(root);
  part('scene').replaceChildren(...data.scenes.map((one, i) => new Option(one.name, i)));
  root.show = show;
  show(0);
}
