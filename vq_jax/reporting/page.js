'use strict';
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const hidden = new Set();  // runs that are not shown, by index
  const view = { log: false, smoothing: 0 };  // smoothing: share of the steps that an average reaches back
  const MARGIN = { left: 56, right: 14, top: 10, bottom: 24 };

  // Elements.

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  function draw(parent, tag, attributes) {
    const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    parent.append(element);
    return element;
  }

  // Beyond the eight colours of the style, multiples of the golden angle lie far apart.
  const colour = (run) => run < 8 ? `var(--run-${run})` : `hsl(${run * 137.508 % 360} 55% var(--run-lightness))`;

  function number(value) {
    if (value === 0) return '0';
    const size = Math.abs(value);
    return size < 1e-4 || size >= 1e6 ? value.toExponential(3).replace(/\.?0+e/, 'e')
      : String(Number(value.toPrecision(5)));
  }

  const count = (value) => value.toLocaleString('en');

  // Numbers.

  // The index of the value nearest to x in a rising list.
  function nearest(list, x) {
    let low = 0, high = list.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (list[middle] < x) low = middle + 1; else high = middle;
    }
    return low > 0 && x - list[low - 1] <= list[low] - x ? low - 1 : low;
  }

  // Average of what came before, with weights that fall by e over `reach` steps; without the pull to zero of
  // one that starts there.
  function smooth(steps, values, reach) {
    let sum = 0, weight = 0, before = steps[0];
    return values.map((value, i) => {
      if (value === null) return null;
      const keep = Math.exp((before - steps[i]) / reach);
      before = steps[i];
      sum = sum * keep + value;
      weight = weight * keep + 1;
      return sum / weight;
    });
  }

  // Numbers may be the smallest and the largest that there are: differences must not overflow, and no loop
  // count by what is lost in rounding.
  function ticks(low, high, wanted) {
    const rough = high / wanted - low / wanted, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
    const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
    const found = new Set();
    for (let i = 0; i <= Math.min(last - first, 2 * wanted); i++) {
      found.add(Number(((first + i) * step).toPrecision(12)));
    }
    return [...found];
  }

  function logTicks(low, high, wanted) {
    const [bottom, top] = [Math.log10(low), Math.log10(high)];
    if (top - bottom < 1) return ticks(low, high, wanted).filter((t) => t > 0);
    const every = Math.ceil((top - bottom) / wanted);
    const found = [];
    for (let e = Math.floor(bottom); e <= Math.ceil(top); e++) {
      for (const m of top - bottom < 3 ? [1, 2, 5] : [1]) {
        const t = Number(`${m}e${e}`);
        if (e % every === 0 && t >= low * 0.999 && t <= high * 1.001) found.push(t);
      }
    }
    return found;
  }

  const evaluated = (curve) => curve.split !== 'train' && curve.split !== 'speed';
  const smoothed = (curve) => view.smoothing > 0 && !evaluated(curve);

  // A chart: its elements, what it shows, and where its cursor is.

  class Chart {
    constructor(chart, parent) {
      this.chart = chart;
      this.cursor = null;  // index in this.steps
      this.svg = draw(make('div', { class: 'plot' }), 'svg', {
        role: 'img', tabindex: 0, 'aria-label': `${chart.name} against training step; arrow keys read values`,
      });
      this.tip = make('div', { class: 'tip', role: 'status', hidden: '' });
      this.note = make('p', { class: 'note' });
      this.svg.parentNode.append(this.tip);
      parent.append(make('figure', { class: 'chart', 'data-name': chart.name },
        make('figcaption', {}, chart.name), this.svg.parentNode, this.note));
      this.svg.addEventListener('pointermove', (event) => this.point(event));
      this.svg.addEventListener('pointerdown', (event) => this.point(event));
      this.svg.addEventListener('pointerleave', (event) => {
        if (event.pointerType === 'mouse') this.move(null);  // a finger's values stay until another place is touched
      });
      this.svg.addEventListener('blur', () => this.move(null));
      this.svg.addEventListener('keydown', (event) => this.key(event));
      new ResizeObserver(() => this.draw()).observe(this.svg);
    }

    draw() {
      const width = this.svg.clientWidth, height = this.svg.clientHeight;
      this.svg.replaceChildren();
      if (!width) return;
      this.curves = this.chart.curves.filter((curve) => !hidden.has(curve.run));
      this.steps = [...new Set(this.curves.flatMap((curve) => curve.steps))].sort((a, b) => a - b);
      const finite = this.curves.flatMap((curve) => curve.values.filter((v) => v !== null));
      const positive = finite.filter((v) => v > 0);
      this.log = view.log && positive.length > 0;
      this.describe(finite, positive);
      const shown = this.log ? positive : finite;
      if (!shown.length) {
        this.move(null);
        return;
      }

      let low = shown.reduce((a, b) => Math.min(a, b)), high = shown.reduce((a, b) => Math.max(a, b));
      if (low / 4 === high / 4) {
        const size = Math.abs(low), room = size > 1e-300 ? size * 0.1 : 1;
        [low, high] = this.log ? [low / 2, high * 2] : [low - room, high + room];
      } else if (this.log) {
        const [bottom, top] = [Math.log10(low), Math.log10(high)], room = (top - bottom) * 0.03;
        [low, high] = [10 ** (bottom - room), 10 ** (top + room)];
      } else {
        const room = high * 0.03 - low * 0.03;
        [low, high] = [low - room, high + room];
      }
      [low, high] = [Math.max(low, this.log ? Number.MIN_VALUE : -Number.MAX_VALUE), Math.min(high, Number.MAX_VALUE)];
      const scale = this.log ? Math.log : (v) => v / 4;  // so that a difference does not overflow
      const [bottom, top] = [scale(low), scale(high)];
      const span = this.steps.at(-1) || 1;
      const inner = { w: width - MARGIN.left - MARGIN.right, h: height - MARGIN.top - MARGIN.bottom };
      this.x = (step) => MARGIN.left + step / span * inner.w;
      this.y = (value) => MARGIN.top + (top - scale(value)) / (top - bottom) * inner.h;
      this.step = (x) => (x - MARGIN.left) / inner.w * span;

      for (const t of (this.log ? logTicks : ticks)(low, high, 5)) {
        const y = this.y(t);
        draw(this.svg, 'line', { class: 'grid', x1: MARGIN.left, x2: width - MARGIN.right, y1: y, y2: y });
        draw(this.svg, 'text', { x: MARGIN.left - 6, y: y + 4, 'text-anchor': 'end' }).textContent = number(t);
      }
      for (const t of ticks(0, span, Math.max(2, Math.floor(inner.w / 90))).filter(Number.isInteger)) {
        const label = count(t), half = label.length * 3.2;  // about half of its width
        const x = Math.min(this.x(t), width - half);
        draw(this.svg, 'text', { x, y: height - 6, 'text-anchor': 'middle' }).textContent = label;
      }
      // What is smoothed lies over what it is made of.
      for (const curve of this.curves) this.line(curve);
      for (const curve of this.curves.filter(smoothed)) {
        const [steps, values] = curve.averages ?? [curve.steps, curve.values];
        this.path(curve, steps, smooth(steps, values, view.smoothing * span), 'curve');
      }
      this.marks = draw(this.svg, 'g', {});
      this.move(this.cursor !== null && this.cursor < this.steps.length ? this.cursor : null);
    }

    line(curve) {
      const other = evaluated(curve);
      const kind = other ? 'curve other' : smoothed(curve) ? 'curve faint' : 'curve';
      this.path(curve, curve.steps, curve.values, kind);
      // Points that no line shows.
      const alone = (i) => (curve.values[i - 1] ?? null) === null && (curve.values[i + 1] ?? null) === null;
      curve.values.forEach((value, i) => {
        if (this.drawn(value) && (alone(i) || (other && curve.values.length <= 60))) this.dot(this.svg, curve, i, 2.5);
      });
    }

    path(curve, steps, values, kind) {
      let d = '', pen = 'M';
      values.forEach((value, i) => {
        if (this.drawn(value)) {
          d += `${pen}${this.x(steps[i]).toFixed(1)} ${this.y(value).toFixed(1)}`;
          pen = 'L';
        } else pen = 'M';
      });
      if (d) {
        const path = draw(this.svg, 'path', { class: kind, d, 'data-split': curve.split });
        path.style.setProperty('--run', colour(curve.run));
      }
    }

    dot(parent, curve, i, r) {
      const dot = draw(parent, 'circle', { class: 'dot', r, cx: this.x(curve.steps[i]), cy: this.y(curve.values[i]) });
      dot.style.setProperty('--run', colour(curve.run));
    }

    drawn(value) {
      return Number.isFinite(value) && (!this.log || value > 0);
    }

    // Says in words what no line shows.
    describe(finite, positive) {
      const notes = this.curves.filter((curve) => curve.not_finite[0] > 0).map(({ run, split, not_finite: [n, step] }) =>
        `${data.runs.length > 1 ? `${data.runs[run]}, ` : ''}${split}: ${count(n)} not finite, from step ${count(step)}.`);
      if (view.log && positive.length < finite.length) {
        notes.push(positive.length ? 'Zero and below are left out.' : 'No value above zero: not on a log scale.');
      }
      this.note.textContent = notes.join(' ');
    }

    point(event) {
      if (!this.steps?.length || !this.step) return;
      const x = event.clientX - this.svg.getBoundingClientRect().left;
      this.move(nearest(this.steps, this.step(x)));
    }

    key(event) {
      const last = this.steps.length - 1, by = event.shiftKey ? 10 : 1;
      const at = this.cursor ?? (event.key === 'ArrowLeft' ? last + 1 : -1);
      const to = { ArrowLeft: at - by, ArrowRight: at + by, Home: 0, End: last }[event.key];
      if (event.key === 'Escape') this.move(null);
      if (to === undefined || last < 0) return;
      event.preventDefault();
      this.move(Math.max(0, Math.min(last, to)));
    }

    // Shows the values at a step, or none; of a curve without that step the nearest that it has, unless its
    // run ended before.
    move(index) {
      this.cursor = index;
      this.marks?.replaceChildren();
      this.tip.hidden = index === null || !this.svg.childNodes.length;
      if (this.tip.hidden) return;
      const step = this.steps[index], x = this.x(step);
      draw(this.marks, 'line', {
        class: 'cursor', x1: x, x2: x, y1: MARGIN.top, y2: this.svg.clientHeight - MARGIN.bottom,
      });
      this.tip.replaceChildren(make('div', { class: 'quiet' }, `step ${count(step)}`));
      for (const run of new Set(this.curves.map((curve) => curve.run))) {
        const curves = this.curves.filter((curve) => curve.run === run);
        if (curves.every((curve) => curve.steps.at(-1) < step)) continue;
        const row = make('div');
        if (data.runs.length > 1) {
          const swatch = make('span', { class: 'swatch' });
          swatch.style.setProperty('--run', colour(run));
          row.append(swatch, `${data.runs[run]}: `);
        }
        curves.forEach((curve, place) => {
          const i = nearest(curve.steps, step), value = curve.values[i];
          if (this.drawn(value)) this.dot(this.marks, curve, i, 4);
          const text = value === null ? 'not finite' : number(value);
          const at = curve.steps[i] === step ? '' : ` (step ${count(curve.steps[i])})`;
          row.append(`${place ? ', ' : ''}${curve.split} `, make('b', {}, text), at);
        });
        this.tip.append(row);
      }
    }
  }

  // The parts of the page.

  function addCurves(place) {
    if (!data.charts.length) {
      place.append(make('p', {}, 'Nothing was logged yet.'));
      return [];
    }
    const log = make('input', { type: 'checkbox', id: 'log' });
    const smoothing = make('input', { type: 'range', id: 'smoothing', min: 0, max: 20, step: 0.5, value: 0 });
    const reach = make('output', { for: 'smoothing' }, 'none');
    const key = make('span', { class: 'key' });
    for (const [kind, text] of [['curve', 'training'], ['curve other', 'evaluation']]) {
      const svg = draw(key, 'svg', { viewBox: '0 0 32 12', 'aria-hidden': 'true' });
      draw(svg, 'path', { class: kind, d: 'M0 6L32 6' }).style.setProperty('--run', 'currentColor');
      key.append(`${text}  `);
    }
    place.append(make('div', { class: 'controls' }, make('label', {}, log, 'Log scale'),
      make('label', {}, 'Smoothing of training', smoothing), reach, key));

    const charts = [];
    const titles = { eval: 'Evaluated', train: 'Training only', speed: 'Speed' };
    for (const [group, title] of Object.entries(titles)) {
      const members = data.charts.filter((chart) => chart.group === group);
      if (!members.length) continue;
      const grid = make('div', { class: 'charts' });
      const details = make('details', group === 'speed' ? {} : { open: '' }, make('summary', {}, make('h3', {}, title)), grid);
      place.append(details);
      charts.push(...members.map((chart) => new Chart(chart, grid)));
    }
    log.addEventListener('change', () => {
      view.log = log.checked;
      charts.forEach((chart) => chart.draw());
    });
    smoothing.addEventListener('input', () => {
      view.smoothing = Number(smoothing.value) / 100;
      reach.textContent = view.smoothing ? `${smoothing.value} % of the steps` : 'none';
      charts.forEach((chart) => chart.draw());
    });
    return charts;
  }

  // Buttons that play one recording of a sound, in a row for each kind of them: of 'originals 2' the kind is
  // 'originals'.
  function addCues() {
    for (const audio of document.querySelectorAll('audio[data-cues]')) {
      const cues = JSON.parse(audio.dataset.cues), rows = new Map();
      let until = Infinity;
      const watch = () => {
        if (audio.currentTime >= until) audio.pause();
        if (!audio.paused) requestAnimationFrame(watch);
      };
      audio.addEventListener('play', watch);
      audio.addEventListener('pause', () => { until = Infinity; });
      cues.forEach(([from, name], i) => {
        const [, kind, number] = /^(.*?) ?([0-9]*)$/.exec(name);
        const button = make('button', { type: 'button', 'aria-label': `Play ${name}` }, `\u25b6 ${number}`);
        button.addEventListener('click', () => {
          audio.currentTime = from;
          until = cues[i + 1]?.[0] ?? Infinity;
          audio.play().catch(() => {});  // where a browser does not let it, or it is paused at once: the player shows it
        });
        if (!rows.has(kind)) rows.set(kind, make('tr', {}, make('th', { scope: 'row' }, kind)));
        rows.get(kind).append(make('td', {}, button));
      });
      const table = make('table', { class: 'cues', 'data-step': audio.dataset.step }, ...rows.values());
      table.hidden = audio.hidden;
      audio.after(table);
    }
  }

  // One slider for the media of all names and runs: each shows its newest of that step.
  function stepImages() {
    const figures = [...document.querySelectorAll('.images figure')];
    const steps = [...new Set(figures.flatMap((figure) =>
      [...figure.querySelectorAll('[data-step]')].map((image) => Number(image.dataset.step))))].sort((a, b) => a - b);
    if (steps.length < 2) return;
    const slider = document.getElementById('step'), at = document.getElementById('at');
    document.getElementById('stepper').hidden = false;
    slider.max = steps.length - 1;
    slider.value = slider.max;
    function show() {
      const step = steps[slider.value];
      for (const figure of figures) {
        let newest = null;
        for (const { dataset } of figure.querySelectorAll('[data-step]')) {
          if (Number(dataset.step) <= step) newest = dataset.step;
        }
        for (const image of figure.querySelectorAll('[data-step]')) {
          image.hidden = image.dataset.step !== newest;
          if (image.hidden) image.pause?.();
        }
        figure.querySelector('.at').textContent =
          newest === null ? `none before step ${count(step + 1)}` : `step ${count(Number(newest))}`;
      }
      at.textContent = `${count(step)} of ${count(steps.at(-1))}`;
      slider.setAttribute('aria-valuetext', `step ${count(step)}`);
    }
    slider.addEventListener('input', show);
    show();
  }

  function toggleRuns(charts) {
    for (const button of document.querySelectorAll('button[data-toggle]')) {
      button.addEventListener('click', () => {
        const run = Number(button.dataset.toggle);
        if (!hidden.delete(run)) hidden.add(run);
        button.setAttribute('aria-pressed', String(!hidden.has(run)));
        for (const element of document.querySelectorAll(`[data-run="${run}"]`)) element.hidden = hidden.has(run);
        charts.forEach((chart) => chart.draw());
      });
    }
  }

  for (const swatch of document.querySelectorAll('[data-colour]')) {
    swatch.style.setProperty('--run', colour(Number(swatch.dataset.colour)));
  }
  const legend = document.querySelector('.legend');
  if (legend) {  // what stays in view below it has to know its height
    const measure = () => document.documentElement.style.setProperty('--legend', `${legend.offsetHeight}px`);
    new ResizeObserver(measure).observe(legend);
  }
  addCues();
  stepImages();
  toggleRuns(addCurves(document.getElementById('charts')));
})();
