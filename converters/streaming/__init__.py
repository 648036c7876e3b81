"""Networks of sequences as networks of one step: ``export --streaming``.

``one_step`` finds the axis of time and refuses what cannot be taken step by step. Where only recurrent layers look from
one step to another, ``carry`` hands their state in and out. Where convolutions do, ``trace`` finds where every tensor
stands in time, ``windows`` what each call looks at, ``steps`` runs the network on one step with ring buffers as states,
and ``convolutional`` plans that and checks it by numbers.
"""
